"""Lines of content that are too long for SMTP, broken."""


class LineFolder:
    """Breaks lines longer than ``limit`` bytes: the rest goes on in the next line, after a space.

    Text comes in chunks cut anywhere; nothing is held back. This is what Postfix does to lines beyond
    smtp_line_length_limit (RFC 5321 section 4.5.3.1.6); 0 never breaks.
    """

    __slots__ = ("_column", "_limit")

    def __init__(self, limit: int) -> None:
        if limit == 1:
            raise ValueError("a line of one byte has no room for the space and text")
        self._limit = limit
        self._column = 0

    def reset(self) -> None:
        """Begins a new text."""
        self._column = 0

    def fold(self, chunk: bytes) -> bytes:
        """The chunk with its long lines broken."""
        limit = self._limit
        if not limit or not chunk:
            return chunk
        pieces: list[bytes] = []
        done = position = 0
        column = self._column
        size = len(chunk)
        while size - position > limit - column:
            # As far as one line may reach, line end included: all of it is fine if a line ends there.
            end = chunk.rfind(b"\n", position, position + limit - column + 1)
            if end >= 0:
                position = end + 1
                column = 0
                continue
            position += limit - column
            pieces += (chunk[done:position], b"\n ")
            done = position
            column = 1
        last = chunk.rfind(b"\n", position)
        self._column = size - last - 1 if last >= 0 else column + size - position
        if not pieces:
            return chunk
        pieces.append(chunk[done:])
        return b"".join(pieces)

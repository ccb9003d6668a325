"""Message content as it crosses the wire after DATA, in both directions: the one codec of server, client and LMTP.

On the wire lines end in CRLF, a line that begins with a dot has a second one put before it, and a line that is a
dot alone ends the content (RFC 5321, 4.1.1.4 and 4.5.2). Inside the house lines end in LF, without added dots and
without the end mark.

The law of the decoder: content ends at ``<CRLF>.<CRLF>`` and nowhere else. A bare LF ends a line, but never makes an
end mark; a line of one dot beside a bare LF is dropped. A CR that no LF follows is content. Only the mode "no", which
an administrator gives to clients that know no better, lets bare LFs make an end mark.
"""

import re
from typing import Final, Literal

BareNewline = Literal["no", "note", "normalize", "reject"]
"""What becomes of lines that end in LF alone (postconf(5), smtpd_forbid_bare_newline).

The decoder treats note, normalize and reject alike, and counts; its caller notes or rejects.
"""

_END: Final = b"\r\n.\r\n"
# What may be the beginning of an end mark, so that it waits for the bytes that follow. The longest is looked for first.
_OPEN_ENDS: Final = (b"\r\n.\r", b"\n.\r", b"\r\n.", b"\r\n", b"\n.", b"\r", b"\n")
_STUFFED = re.compile(rb"(?<=\n)\.\n?")
_LENIENT_END = re.compile(rb"\n\.\r?\n")


class DataDecoder:
    """Takes content off the wire.

    ``bare_newlines`` counts the LFs without CR so far; ``size`` is the content's size in bytes as SMTP counts it
    (RFC 1870: line ends are two bytes, the added dots and the end mark are not part of it).
    """

    __slots__ = ("_carry", "_lenient", "_skip_newline", "bare_newlines", "ended", "size")

    def __init__(self, mode: BareNewline) -> None:
        self._lenient = mode == "no"
        # The end of the DATA command stands before the first line, so that this is like any other, and is then skipped.
        self._carry = b"\r\n"
        self._skip_newline = True
        self.bare_newlines = 0
        self.size = 0
        self.ended = False

    @property
    def pending(self) -> int:
        """Bytes that may be the beginning of an end mark, and are part of no content yet."""
        return 0 if self._skip_newline else len(self._carry)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decodes the next bytes of any number. Returns content, and what follows the end mark once that was seen."""
        assert not self.ended
        data = self._carry + data
        # The first line with a dot: that is looked for once, for nearly all content has but one, the end mark.
        dot = data.find(b"\n.")
        content, rest = data, b""
        if dot >= 0 and (end := self._find_end(data, dot)) is not None:
            self.ended = True
            content, rest = data[: end[0]], data[end[1] :]
        else:
            for tail in _OPEN_ENDS:
                if content.endswith(tail):
                    content = content[: -len(tail)]
                    self._carry = tail
                    break
            else:
                self._carry = b""
        return self._decode(content, stuffed=0 <= dot < len(content) - 1), rest

    def _find_end(self, data: bytes, dot: int) -> tuple[int, int] | None:
        """Where content ends and where the end mark does; ``dot`` is the place before which there is none."""
        if self._lenient:
            found = _LENIENT_END.search(data, dot)
            return None if found is None else (found.start() + 1, found.end())
        end = data.find(_END, max(dot - 1, 0))
        return None if end < 0 else (end + 2, end + len(_END))

    def _decode(self, wire: bytes, *, stuffed: bool) -> bytes:
        if not wire:
            return wire
        # Nothing finds and counts single bytes as fast as taking them out does.
        content = wire.replace(b"\r", b"")
        pairs = wire.count(b"\r\n")
        if len(wire) - len(content) != pairs:  # a CR is content
            content = wire.replace(b"\r\n", b"\n")
        newlines = len(content) - len(content.replace(b"\n", b""))
        bare = newlines - pairs
        if stuffed:
            # Without a bare LF no line can be a dot alone here: that would have been the end mark.
            content = _STUFFED.sub(b"", content) if bare else content.replace(b"\n.", b"\n")
        self.bare_newlines += bare
        self.size += len(content) + content.count(b"\n") if bare else len(content) + newlines
        if self._skip_newline:
            content = content[1:]
            self.size -= 2
        # A line of one dot whose line end, bare, was held back.
        self._skip_newline = wire.endswith(b"\n.")
        return content


class DataEncoder:
    """Puts content on the wire. The chunks may break anywhere."""

    __slots__ = ("_at_line_start",)

    def __init__(self) -> None:
        self._at_line_start = True

    def feed(self, content: bytes) -> bytes:
        """Encodes the next bytes of the content."""
        if not content:
            return content
        wire = content.replace(b"\n.", b"\n..") if b"\n." in content else content
        if self._at_line_start and wire.startswith(b"."):
            wire = b"." + wire
        self._at_line_start = wire.endswith(b"\n")
        return wire.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """The end mark, after the line end that the last line may lack."""
        return b".\r\n" if self._at_line_start else _END

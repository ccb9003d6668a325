"""What a person or a program writes into sendmail, as the content of a message: sans-IO.

Line ends are made LF, leading ``From `` lines (as mbox files have them) are dropped, and a line that is a single dot
ends the message where the caller has not said otherwise (-i).

There are no regular expressions here: importing re takes sendmail as long as starting Python.

Source: Postfix's sendmail(1), sendmail_fix_line_endings.
"""

LINE_LIMIT = 2048
"""A first line longer than this is neither a From line nor tells how lines end (Postfix's line_length_limit)."""

HEADER_LIMIT = 1024 * 1024
"""Bytes of header that are searched for recipients."""

# RFC 5322 2.2: printable characters without the colon, which ends the name.
_FIELD_NAME = bytes(range(ord("!"), ord("~") + 1))
_RECIPIENT_FIELDS = frozenset((b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc"))


class SubmissionText:
    """Feeds on input in chunks that end anywhere; ``ended`` says that the rest does not count."""

    __slots__ = ("_at_start", "_dot_ends", "_first", "_fix", "_held", "ended")

    def __init__(self, fix_line_endings: str, *, dot_ends: bool) -> None:
        """``fix_line_endings``: "always", "strict" (if the first line ends in CR LF) or "never"."""
        self.ended = False
        self._fix: bool | None = {"always": True, "never": False}.get(fix_line_endings)
        self._dot_ends = dot_ends
        self._at_start = True
        self._first = True
        # what may be the beginning of something: of the first line, of a line end, or of the line that is a dot
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The content that is certain after this input."""
        if self.ended:
            return b""
        text = self._held + data
        if self._at_start:
            text = self._begin(text)
            if self._at_start:
                self._held = text
                return b""
        return self._middle(text)

    def finish(self) -> bytes:
        """The rest, at the end of the input."""
        if self.ended:
            return b""
        text = self._held
        if self._at_start:
            # A last line without its end is taken as it is.
            text = self._middle(b"\n" + text) + self._held
        if self._first:
            text = text[1:]
        self.ended = True
        if self._dot_ends and (text == b"." or text.endswith(b"\n.")):
            return text[:-1]
        return text

    def _begin(self, text: bytes) -> bytes:
        """Drops From lines from the beginning. What is returned begins with LF once the beginning is over."""
        while True:
            end = text.find(b"\n", 0, LINE_LIMIT + 1)
            if end < 0 and len(text) <= LINE_LIMIT:
                return text
            if self._fix is None:
                self._fix = end > 0 and text[end - 1] == 0x0D
            if end < 0 or not text[:end].lstrip(b">").startswith(b"From "):
                self._at_start = False
                return b"\n" + text
            text = text[end + 1 :]

    def _middle(self, text: bytes) -> bytes:
        if self._fix and b"\r\n" in text:
            *lines, rest = text.split(b"\n")
            text = b"\n".join([*(line.rstrip(b"\r") for line in lines), rest])
        if self._dot_ends:
            end = text.find(b"\n.\n")
            if end >= 0:
                self.ended = True
                return self._without_mark(text[: end + 1])
        keep = self._uncertain(text)
        cut = len(text) - keep
        self._held = text[cut:]
        return self._without_mark(text[:cut])

    def _uncertain(self, text: bytes) -> int:
        """How many bytes at the end may belong to a line end or to the end mark."""
        keep = len(text) - len(text.rstrip(b"\r")) if self._fix else 0
        if self._dot_ends:
            before = text[: len(text) - keep][-2:]
            if before == b"\n.":
                return keep + 2
            if before.endswith(b"\n"):
                return keep + 1
        return keep

    def _without_mark(self, text: bytes) -> bytes:
        """The text without the LF that was put before it, so that every line has one before it."""
        if self._first and text:
            self._first = False
            return text[1:]
        return text


class RecipientFields:
    """Watches content go by for To, Cc and Bcc fields in its header (sendmail -t); ``bodies`` are theirs, at its end.

    A header consists of fields; the first line that is none ends it.
    """

    __slots__ = ("_header", "_over", "bodies")

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._header = b""
        self._over = False

    def feed(self, content: bytes) -> None:
        """Looks at the next piece of content."""
        if self._over:
            return
        self._header += content
        if b"\n\n" in self._header or self._header.startswith(b"\n") or len(self._header) > HEADER_LIMIT:
            self.finish()

    def finish(self) -> None:
        """Looks at what there is of a header."""
        if self._over:
            return
        self._over = True
        # The line's end makes a last line whole that is not.
        header, self._header = self._header[:HEADER_LIMIT] + b"\n", b""
        position = 0
        while (colon := header.find(b":", position)) >= 0:
            name = header[position:colon].rstrip(b" \t")
            if not name or name.translate(None, _FIELD_NAME):
                return
            position = header.index(b"\n", colon) + 1
            while header.startswith((b" ", b"\t"), position):
                position = header.index(b"\n", position) + 1
            if name.lower() in _RECIPIENT_FIELDS:
                self.bodies.append(header[colon + 1 : position])

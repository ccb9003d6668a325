"""SMTP replies: a code, an enhanced status code and text (RFC 5321, 4.2; RFC 2034; RFC 3463)."""

from typing import Final, final

from msgspec import Struct


@final
class Reply(Struct, frozen=True):
    """A reply. ``status`` is empty for a reply without enhanced status code; ``text`` has one line for each LF."""

    code: int
    # RFC 3463 status, "2.1.0"
    status: str
    text: str

    def __str__(self) -> str:
        """The reply as a log line quotes it: lines joined by a blank."""
        return " ".join([str(self.code), *([self.status] if self.status else []), *self.text.split("\n")])

    @property
    def positive(self) -> bool:
        """Whether the command succeeded (2xx), or is to be continued (3xx)."""
        return self.code < 400

    def softened(self) -> "Reply":
        """The reply as a temporary one: ``450 4.1.1`` for ``550 5.1.1``; what is not permanent stays as it is."""
        if self.code < 500:
            return self
        return Reply(self.code - 100, f"4{self.status[1:]}" if self.status else "", self.text)

    def encode(self) -> bytes:
        """The reply as it goes over the wire, with the status in each line (RFC 2034, 4)."""
        status = self.status + " " if self.status else ""
        if "\n" not in self.text:
            return f"{self.code} {status}{self.text}\r\n".encode("utf-8", "replace")
        others, _, last = self.text.rpartition("\n")
        start = f"{self.code}-{status}"
        others = others.replace("\n", f"\r\n{start}")
        return f"{start}{others}\r\n{self.code} {status}{last}\r\n".encode("utf-8", "replace")


OK: Final = Reply(250, "2.0.0", "Ok")

"""The language of main.cf: logical lines of ``name = value``.

A line that starts with white space continues the logical line before it. Empty lines and lines whose first
non-blank character is ``#`` are skipped, also between a line and its continuation. White space around the name, the
``=`` and the value does not count.

Source: postconf(5), the general format of the main.cf file.
"""

from pyfix.conf.error import ConfigError

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Iterator

WHITE_SPACE = " \t\r\v\f"
"""What C's isspace() takes for white space within a line. str.strip() without it would take U+0085 and others too."""

MAX_BYTES = 4 * 1024 * 1024
"""A larger main.cf is refused."""


class Assignment:
    """A parameter's value with the place where it was set; ``line`` is its first line, 0 on the command line."""

    __slots__ = ("file", "line", "name", "value")

    def __init__(self, name: str, value: str, file: str, line: int) -> None:
        self.name = name
        self.value = value
        self.file = file
        self.line = line


def parse(content: bytes, file: str) -> list[Assignment]:
    """The assignments of a main.cf, in order; ConfigError for the first line that is none."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES} bytes", file=file, hint="is this the right file?")
    return [_assignment(text, file, line) for line, text in logical_lines(content, file)]


def logical_lines(content: bytes, file: str) -> "Iterator[tuple[int, str]]":
    """The logical lines with the number of their first line; continuations keep their leading white space."""
    first, pieces = 0, list[str]()
    for number, raw in enumerate(content.split(b"\n"), 1):
        stripped = raw.strip(b" \t\r\v\f")
        if not stripped or stripped.startswith(b"#"):
            continue
        text = _decoded(raw, file, number)
        if text[0] not in WHITE_SPACE or not pieces:
            if pieces:
                yield first, "".join(pieces)
            first, pieces = number, [text]
        else:
            pieces.append(text)
    if pieces:
        yield first, "".join(pieces)


def split_assignment(text: str) -> tuple[str, str] | None:
    """The name and value of ``name = value``; None for anything else."""
    name, equals, value = text.partition("=")
    name = name.strip(WHITE_SPACE)
    if not equals or not name or any(character in WHITE_SPACE for character in name):
        return None
    return name, value.strip(WHITE_SPACE)


def _assignment(text: str, file: str, line: int) -> Assignment:
    pair = split_assignment(text)
    if pair is None:
        shown = text.strip(WHITE_SPACE)[:60]
        raise ConfigError(f"not an assignment: {shown!r}", file=file, line=line, hint="write: name = value")
    return Assignment(*pair, file, line)


def _decoded(raw: bytes, file: str, line: int) -> str:
    if b"\0" in raw:
        raise ConfigError("a NUL byte", file=file, line=line, hint="is this a text file?")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", file=file, line=line, hint="save the file in UTF-8") from None

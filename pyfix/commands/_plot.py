"""The queue's shape as a picture: ages across, domains down, each cell as dark as it is full."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from pyfix.service.shape import NAME_WIDTH, Row, legend, level, name_cell
from pyfix.system.journal import printable

_SHADES = " .:-=+*#%@"
# From few to many, of the 256 colours that nearly every terminal has; with one that can be read on it.
_COLOURS = (
    "color(240)",
    *("white on color(17)", "white on color(19)", "white on color(25)", "white on color(30)"),
    *("black on color(34)", "black on color(142)", "black on color(214)", "black on color(208)", "white on color(160)"),
)
_LEVELS = len(_SHADES) - 1


class _Layout:
    """What stands where."""

    def __init__(self, rows: Sequence[Row], heads: Sequence[bytes], width: int, *, numbers: bool) -> None:
        self.greatest = max(max(row.counts[1:]) for row in rows)
        self.sum_width = max(len(str(row.counts[0])) for row in rows) + 2
        self.cell_width = max(len(str(self.greatest)) if numbers else 0, *map(len, heads)) + 1
        used = self.sum_width + self.cell_width * len(heads)
        self.name_width = max(min(width - used, max(len(row.domain) for row in rows)), NAME_WIDTH)
        cells = b"".join(head.rjust(self.cell_width) for head in heads)
        self.head = b" " * self.name_width + b"T".rjust(self.sum_width) + cells

    def label(self, row: Row) -> bytes:
        """A line's name and sum."""
        return name_cell(row.domain, self.name_width) + b"%*d" % (self.sum_width, row.counts[0])

    def level(self, count: int) -> int:
        """How strong a count is drawn."""
        return level(count, self.greatest, _LEVELS)


def plain(rows: Sequence[Row], heads: Sequence[bytes], width: int) -> Iterator[bytes]:
    """The picture in ASCII characters, a line each."""
    layout = _Layout(rows, heads, width, numbers=False)
    yield layout.head
    for row in rows:
        cells = "".join(" " + _SHADES[layout.level(count)] * (layout.cell_width - 1) for count in row.counts[1:])
        yield (layout.label(row) + cells.encode()).rstrip(b" ")
    if layout.greatest:
        known = legend(layout.greatest, _LEVELS).items()
        yield b""
        yield ("from: " + "  ".join(f"{_SHADES[number]} {count}" for number, count in known)).encode()


def draw(rows: Sequence[Row], heads: Sequence[bytes], width: int) -> None:
    """Draws the picture on the terminal, in colours where it has some."""
    console = Console(width=width, highlight=False)
    if console.color_system is None:
        for line in plain(rows, heads, width):
            console.out(printable(line.decode("utf-8", "replace")))
        return
    layout = _Layout(rows, heads, width, numbers=True)
    console.print(Text(layout.head.decode(), style="bold"), overflow="crop", no_wrap=True)
    for row in rows:
        drawn = Text(printable(layout.label(row).decode("utf-8", "replace")))
        for count in row.counts[1:]:
            text = str(count) if count else "-"
            drawn.append(" ").append(text.rjust(layout.cell_width - 1), _COLOURS[layout.level(count)])
        console.print(drawn, overflow="crop", no_wrap=True)

"""Changes of a main.cf's text that leave everything else in it as it is, comments and order included.

Source: postconf(1) -e, -#, -X.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from pyfix.conf.main_cf import split_assignment

_BLANK = b" \t\r\v\f\n"

Block = list[tuple[bool, bytes]]
"""The lines of an assignment and the comments between and behind them; true for the assignment's own."""


def set_values(content: bytes, values: Mapping[str, str]) -> bytes:
    """The text with new values: in place of every old one, else at the end."""
    found = set[str]()

    def change(name: str, block: Block) -> bytes:
        found.add(name)
        return _line(name, values[name]) + b"".join(line for own, line in block if not own)

    changed = _changed(content, values.keys(), change)
    return changed + b"".join(_line(name, value) for name, value in values.items() if name not in found)


def comment_out(content: bytes, names: AbstractSet[str]) -> bytes:
    """The text with every assignment of those names turned into comments."""
    return _changed(content, names, lambda _name, block: b"".join(b"#" + line if own else line for own, line in block))


def remove(content: bytes, names: AbstractSet[str]) -> bytes:
    """The text without the assignments of those names."""
    return _changed(content, names, lambda _name, block: b"".join(line for own, line in block if not own))


def _line(name: str, value: str) -> bytes:
    return f"{name} = {value}\n".encode()


def _changed(content: bytes, names: AbstractSet[str], change: Callable[[str, Block], bytes]) -> bytes:
    """The text with the assignments of those names replaced by what ``change`` makes of them."""
    if content and not content.endswith(b"\n"):
        content += b"\n"
    output: list[bytes] = []
    for name, block in _blocks(content):
        output.append(change(name, block) if name in names else b"".join(line for _own, line in block))
    return b"".join(output)


def _blocks(content: bytes) -> list[tuple[str, Block]]:
    """The text cut before every assignment, each with its name; the first block may have none."""
    blocks: list[tuple[str, Block]] = [("", [])]
    for text in content.split(b"\n")[:-1]:
        line = text + b"\n"
        stripped = line.strip(_BLANK)
        if not stripped or stripped.startswith(b"#"):
            blocks[-1][1].append((False, line))
        elif line[:1] in (b" ", b"\t") and len(blocks) > 1:
            blocks[-1][1].append((True, line))
        else:
            pair = split_assignment(text.decode("utf-8", "replace"))
            blocks.append((pair[0] if pair else "", [(True, line)]))
    return blocks

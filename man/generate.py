# ruff: noqa: INP001 -- a script, not part of a package
"""Makes manual pages from the docstrings of roles, commands and a few other modules.

usage: generate.py DIRECTORY

A docstring begins with "name: what it does." or "name(1): what it does."; a line that is not indented is a heading, and
indented paragraphs stand below it. The pages go to DIRECTORY/man1, man7 and man8.
"""

import ast
import datetime as dt
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTIONS = {"commands": "1", "roles": "8"}
# Pages about what is no program, by name: where they are written, and their section.
TOPICS = {"pyfix-journal": ("service/events.py", "7")}
# Names under which a command is called too.
ALIASES = {"sendmail": ("mailq", "newaliases")}


def page(docstring: str, name: str, section: str, version: str, date: str) -> str:
    """A page in the man macros."""
    first, _, rest = docstring.strip().partition("\n")
    summary = first.partition(": ")[2].removesuffix(".")
    lines = [
        f'.TH {name.upper()} {section}pyfix "{date}" "pyfix {version}" "pyfix"',
        ".SH NAME",
        f"{name} \\- {_roff(summary)}",
        *_body(rest),
    ]
    return "\n".join(lines) + "\n"


def _body(text: str) -> Iterator[str]:
    block: list[str] = []
    first = True
    for line in [*text.split("\n"), ""]:
        if line.startswith(" "):
            block.append(line)
            continue
        if block:
            yield from [] if first else [".PP"]
            yield from _block(block)
            block, first = [], False
        if line:
            yield f".SH {_roff(line.upper())}"
            first = True


def _block(lines: list[str]) -> Iterator[str]:
    """A paragraph; a table or another block whose columns matter keeps its lines."""
    stripped = [line.strip() for line in lines]
    keep = any("  " in line for line in stripped)
    yield from [".nf"] if keep else []
    for line in stripped:
        if set(line) - {"=", " "}:  # not a table's rule
            yield _roff(line)
    yield from [".fi"] if keep else []


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"``(.+?)``", r"\\fB\1\\fP", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write_pages(directory: Path) -> list[Path]:
    """Writes all pages; the files."""
    version = re.search(r'VERSION = "(.+)"', (ROOT / "pyfix/conf/version.py").read_text())[1]
    # For builds that can be repeated, as reproducible-builds.org has it.
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or (ROOT / "NEWS.md").stat().st_mtime)
    date = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d")
    written = []
    for name, source, section in _sources():
        target = directory / f"man{section}"
        target.mkdir(parents=True, exist_ok=True)
        text = page(ast.get_docstring(ast.parse(source.read_text())), name, section, version, date)
        written.append(target / f"{name}.{section}pyfix")
        written[-1].write_text(text)
        for alias in ALIASES.get(name, ()):
            if not source.with_name(f"{alias}.py").exists():
                written.append(target / f"{alias}.{section}pyfix")
                written[-1].write_text(f".so man{section}/{name}.{section}pyfix\n")
    return written


def _sources() -> Iterator[tuple[str, Path, str]]:
    """Each page's name, the module whose docstring it is made from, and its section."""
    for folder, section in SECTIONS.items():
        for source in sorted((ROOT / "pyfix" / folder).glob("[a-z]*.py")):
            yield source.stem, source, section
    for name, (path, section) in TOPICS.items():
        yield name, ROOT / "pyfix" / path, section


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: generate.py DIRECTORY")
    write_pages(Path(sys.argv[1]))

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "man/generate.py"))

DOCSTRING = """smtp(8): sends mail -- far away.

Description
    One paragraph
    of ``-o name=value`` two lines.

    'Another' with a \\\\ in it.
Security
    .hidden
"""


def test_a_docstring_becomes_a_page():
    assert GENERATOR["page"](DOCSTRING, "smtp", "8", "1.0", "2026-11-22").split("\n") == [
        '.TH SMTP 8pyfix "2026-11-22" "pyfix 1.0" "pyfix"',
        ".SH NAME",
        "smtp \\- sends mail \\-\\- far away",
        ".SH DESCRIPTION",
        "One paragraph",
        "of \\fB\\-o name=value\\fP two lines.",
        ".PP",
        "\\&'Another' with a \\e\\e in it.",
        ".SH SECURITY",
        "\\&.hidden",
        "",
    ]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return GENERATOR["write_pages"](tmp_path_factory.mktemp("man"))


def test_every_program_has_a_page_with_the_headings_that_matter(pages):
    own = {path.name: path.read_text() for path in pages if not path.read_text().startswith(".so ")}
    for folder, section in (("roles", 8), ("commands", 1)):
        for source in (ROOT / "pyfix" / folder).glob("[a-z]*.py"):
            text = own[f"{source.stem}.{section}pyfix"]
            headings = {line.removeprefix(".SH ") for line in text.split("\n") if line.startswith(".SH ")}
            needed = {"NAME", "DESCRIPTION", "DIAGNOSTICS"} | ({"SECURITY"} if folder == "roles" else set())
            assert needed <= headings, source.name


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not here")
def test_groff_has_nothing_to_complain_of(pages):
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-z", *[p for p in pages if not p.read_text().startswith(".so ")]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")

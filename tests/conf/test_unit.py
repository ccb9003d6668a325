from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.conf.unit import Command, Unit, UnitError, parse_time_span, parse_unit, split_words


def unit(text, *drop_ins):
    parsed = [s for number, t in enumerate((text, *drop_ins)) for s in parse_unit(t, f"file{number}")]
    return Unit("pyfix-x.service", parsed)


def test_sections_comments_and_continuations():
    read = parse_unit(
        "# comment\n[Unit]\nDescription = a mail  system \n\n"
        "[Service]\n; comment\nExecStart=/bin/x \\\n# in between\n  -a \\\n  -b\n",
        "x.service",
    )
    assert [(s.section, s.key, s.value, s.source) for s in read] == [
        ("Unit", "Description", "a mail  system", "x.service:3"),
        ("Service", "ExecStart", "/bin/x  -a  -b", "x.service:7"),
    ]


def test_a_last_line_that_ends_in_a_backslash_counts():
    assert [s.value for s in parse_unit("[Unit]\nDescription=x\\", "f")] == ["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Description=x", "f:1: Description= stands before the first [Section]"),
        ("[Unit]\nwords without sign", "f:2: neither [Section] nor Key=value: words without sign"),
        ("[Unit]\n=value", "f:2: neither [Section] nor Key=value: =value"),
        ("[Unit\nA=b", "f:1: neither [Section] nor Key=value: [Unit"),
        ("[Unit]\nA\vB=c", "f:2: neither [Section] nor Key=value: A\vB=c"),
    ],
)
def test_what_is_no_unit_file_is_refused_with_its_line(text, message):
    with pytest.raises(UnitError) as caught:
        parse_unit(text, "f")
    assert str(caught.value) == message


def test_an_endless_file_is_refused():
    with pytest.raises(UnitError, match="f: longer than"):
        parse_unit("#" * (1 << 20) + "\n", "f")


def test_lines_end_at_lf_alone():
    assert [s.value for s in parse_unit("[Unit]\nDescription=a\u2028b\x0bc\n", "f")] == ["a\u2028b\x0bc"]


def test_later_settings_win_or_add_and_an_empty_one_resets():
    read = unit(
        "[Socket]\nListenStream=25\nBacklog=1\n",
        "[Socket]\nListenStream=587\nBacklog=2\n",
        "[Socket]\nListenStream=\nListenStream=2525\n",
    )
    assert read.values("Socket", "ListenStream") == ("2525",)
    assert read.integer("Socket", "Backlog", 0) == 2
    assert unit("[Socket]\nBacklog=1\n", "[Socket]\nBacklog=\n").integer("Socket", "Backlog", 7) == 7


def test_the_same_key_in_another_section_is_another_key():
    read = unit("[Timer]\nUnit=a.service\n[Path]\nUnit=b.service\n")
    assert read.text("Path", "Unit") == "b.service"


def test_words_are_unquoted():
    assert unit('[Service]\nEnvironment=A=b "C=d e"\nEnvironment=F=\n').words("Service", "Environment") == (
        "A=b", "C=d e", "F=",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  a\tb  ", ("a", "b")),
        ("'a b' \"c 'd'\"", ("a b", "c 'd'")),
        ("''", ("",)),
        ("a'b'c", ("abc",)),
        (r"a\x20b \n \\ \s", ("a b", "\n", "\\", " ")),
    ],
)
def test_splitting(text, words):
    assert split_words(text, "f:1") == words


@pytest.mark.parametrize("text", ["'a", '"', "\\", r"\q", r"\x0", r"\x00", r"\xgg"])
def test_bad_quoting_is_refused(text):
    with pytest.raises(UnitError, match=r"^f:1: "):
        split_words(text, "f:1")


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n\x00", exclude_categories=["Cs"]), max_size=8)))
@settings(max_examples=100)
def test_any_words_survive_quoting(words):
    quoted = " ".join('"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words)
    assert split_words(quoted, "f") == tuple(words)


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_any_text_is_read_or_refused(text):
    for reader in (parse_unit, split_words):
        with suppress(UnitError):
            reader(text, "f")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("1min 30s", 90), ("100ms", 0.1), ("2h", 7200), ("1.5 s", 1.5), ("1d1us", 86400.000001), ("0", 0)],
)
def test_time_spans(text, seconds):
    assert parse_time_span(text) == pytest.approx(seconds)


def test_infinity():
    assert parse_time_span("infinity") == float("inf")


@pytest.mark.parametrize("text", ["x", "5 parsecs", "-1", "1e3", "٣", "5s\n"])
def test_bad_time_spans(text):
    with pytest.raises(ValueError, match="not a time span"):
        parse_time_span(text)


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("off", False), ("1", True), ("", True)])
def test_booleans(text, value):
    assert unit(f"[Service]\nDynamicUser={text}\n").boolean("Service", "DynamicUser", default=True) is value


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("DynamicUser=maybe", lambda u: u.boolean("Service", "DynamicUser", default=False)),
        ("UMask=0088", lambda u: u.integer("Service", "UMask", 0, base=8)),
        ("UMask=+7", lambda u: u.integer("Service", "UMask", 0, base=8)),
        ("RestartSec=soon", lambda u: u.seconds("Service", "RestartSec", 0)),
        ("User=%i", lambda u: u.text("Service", "User")),
        ("ExecStart=-", lambda u: u.commands("Service", "ExecStart")),
    ],
)
def test_values_that_make_no_sense_are_refused_with_file_and_line(line, read):
    with pytest.raises(UnitError, match=r"^file0:2: "):
        read(unit(f"[Service]\n{line}\n"))


def test_commands():
    read = unit("[Service]\nExecStart=-+/bin/sh -c 'exit 5%%'\n").commands("Service", "ExecStart")
    assert read == (Command("-+", ("/bin/sh", "-c", "exit 5%")),)

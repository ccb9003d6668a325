import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.wire.command import escape, printable, split_command


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b" \t ", []),
        (b"NOOP", [b"NOOP"]),
        (b" NOOP  x ", [b"NOOP", b"x"]),
        (b"MAIL FROM:<a@b> SIZE=3", [b"MAIL", b"FROM:", b"<a@b>", b"SIZE=3"]),
        (b"MAIL FROM: <a@b>", [b"MAIL", b"FROM:", b"<a@b>"]),
        (b'RCPT TO:<"a b>"@c> X', [b"RCPT", b"TO:", b'<"a b>"@c>', b"X"]),
        (b"RCPT TO:<a@b", [b"RCPT", b"TO:", b"<a@b"]),
        (b"RCPT TO:<a@b>x", [b"RCPT", b"TO:", b"<a@b>x"]),
        (b"RCPT TO:a\\ b", [b"RCPT", b"TO:", b"a\\ b"]),
        (b"RCPT TO:[a b]c", [b"RCPT", b"TO:", b"[a b]c"]),
        (b"Subject: x", [b"Subject:", b"x"]),
        (b":", [b":"]),
        (b"x\\", [b"x\\"]),
    ],
)
def test_words(line, words):
    assert split_command(line) == words


@given(st.text('<>"\\[]: \tab', max_size=60).map(str.encode))
def test_no_byte_is_lost_but_blanks(line):
    def without_blanks(data):
        return data.translate(None, b" \t")

    assert without_blanks(b"".join(split_command(line))) == without_blanks(line)


def test_escape():
    assert escape(b"EHLO\r\n\t\\\0\xff") == "EHLO\\r\\n\\t\\\\\\000\\377"


def test_printable():
    assert printable("a\x00\r\n\x7f\x85\u2028é") == "a??????é"

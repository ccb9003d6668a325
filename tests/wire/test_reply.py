import pytest

from pyfix.wire.reply import Reply


@pytest.mark.parametrize(
    ("reply", "wire", "text"),
    [
        pytest.param(Reply(250, "2.1.0", "Ok"), b"250 2.1.0 Ok\r\n", "250 2.1.0 Ok", id="with status"),
        pytest.param(Reply(354, "", "Go"), b"354 Go\r\n", "354 Go", id="without status"),
        pytest.param(Reply(250, "", "a\nb\nc"), b"250-a\r\n250-b\r\n250 c\r\n", "250 a b c", id="lines"),
        pytest.param(
            Reply(550, "5.1.1", "a\nb"), b"550-5.1.1 a\r\n550 5.1.1 b\r\n", "550 5.1.1 a b", id="status in each line"
        ),
        pytest.param(Reply(550, "5.1.1", "é"), "550 5.1.1 é\r\n".encode(), "550 5.1.1 é", id="not ASCII"),
    ],
)
def test_forms(reply, wire, text):
    assert reply.encode() == wire
    assert str(reply) == text


@pytest.mark.parametrize(("code", "positive"), [(250, True), (354, True), (421, False), (550, False)])
def test_success_and_failure(code, positive):
    assert Reply(code, "", "x").positive is positive


@pytest.mark.parametrize(
    ("reply", "softened"),
    [
        (Reply(550, "5.1.1", "x"), Reply(450, "4.1.1", "x")),
        (Reply(502, "", "x"), Reply(402, "", "x")),
        (Reply(452, "4.3.1", "x"), Reply(452, "4.3.1", "x")),
        (Reply(250, "2.0.0", "x"), Reply(250, "2.0.0", "x")),
    ],
)
def test_a_permanent_refusal_can_be_made_a_temporary_one(reply, softened):
    assert reply.softened() == softened

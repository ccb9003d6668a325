import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.dialogue import Driver

from pyfix.wire.reply import Reply
from pyfix.wire.smtp_dialogue import PAUSED, Delay, End, Hello, Mail, Rcpt
from pyfix.wire.smtp_server import State

ENVELOPE = "EHLO c.example", "MAIL FROM:<a@b.example>", "RCPT TO:<x@mx.example>"


def greeted(decide=None, **options):
    driver = Driver(decide, **options)
    assert driver.greet() == b"220 mx.example ESMTP test\r\n"
    return driver


def in_content(decide=None, **options):
    driver = greeted(decide, **options)
    for line in (*ENVELOPE, "DATA"):
        reply = driver.say(line)
    assert reply == "354 End data with <CR><LF>.<CR><LF>\r\n"
    return driver


DIALOGUES = {
    "hello": [
        ("HELO c.example", "250 mx.example"),
        ("HELO", "501 Syntax: HELO hostname"),
        ("EHLO", "501 Syntax: EHLO hostname"),
    ],
    "out of order": [
        ("RCPT TO:<a@b>", "503 5.5.1 Error: need MAIL command"),
        ("DATA", "503 5.5.1 Error: need RCPT command"),
        ("MAIL FROM:<a@b>", "250 2.1.0 Ok"),
        ("MAIL FROM:<a@b>", "503 5.5.1 Error: nested MAIL command"),
        ("DATA", "554 5.5.1 Error: no valid recipients"),
        ("RCPT TO:<a@b>", "250 2.1.5 Ok"),
        ("DATA now", "501 5.5.4 Syntax: DATA"),
        ("RSET now", "501 5.5.4 Syntax: RSET"),
        ("RSET", "250 2.0.0 Ok"),
        ("RCPT TO:<a@b>", "503 5.5.1 Error: need MAIL command"),
    ],
    "hello resets": [
        ("MAIL FROM:<a@b>", "250 2.1.0 Ok"),
        ("HELO c", "250 mx.example"),
        ("RCPT TO:<a@b>", "503 5.5.1 Error: need MAIL command"),
    ],
    "a hello without name resets nothing": [
        ("MAIL FROM:<a@b>", "250 2.1.0 Ok"),
        ("EHLO", "501 Syntax: EHLO hostname"),
        ("RCPT TO:<a@b>", "250 2.1.5 Ok"),
    ],
    "small commands": [
        ("NOOP", "250 2.0.0 Ok"),
        ("noop a b", "250 2.0.0 Ok"),
        ("HELP", "214 2.0.0 Commands: DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY"),
        ("VRFY", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]"),
        ("VRFY <a@b>", "252 2.0.0 <a@b>"),
        ("VRFY a@b SMTPUTF8", "252 2.0.0 a@b"),
        ("VRFY a b", "501 5.1.3 Bad recipient address syntax"),
        ("VRFY <>", "501 5.1.3 Bad recipient address syntax"),
        ("", "500 5.5.2 Error: bad syntax"),
        ("  ", "500 5.5.2 Error: bad syntax"),
        ("FOO", "500 5.5.2 Error: command not recognized"),
        ("ma\u0131l FROM:<a@b>", "500 5.5.2 Error: command not recognized"),
        ("STARTTLS", "502 5.5.1 Error: command not implemented"),
        ("AUTH PLAIN", "503 5.5.1 Error: authentication not enabled"),
        ("ETRN", "500 Syntax: ETRN domain"),
        ("ETRN x", "502 5.5.1 Error: command not implemented"),
        ("XCLIENT", "501 5.5.4 Syntax: XCLIENT attribute=value..."),
        ("XFORWARD A=b", "550 5.7.0 Error: insufficient authorization"),
    ],
    "in a transaction": [
        ("MAIL FROM:<a@b>", "250 2.1.0 Ok"),
        ("ETRN x", "503 Error: MAIL transaction in progress"),
        ("XCLIENT A=b", "503 5.5.1 Error: MAIL transaction in progress"),
        ("VRFY a@b", "252 2.0.0 a@b"),
        ("RCPT TO:<a@b>", "250 2.1.5 Ok"),
    ],
    "NUL ends a line": [
        ("NOOP\0x", "250 2.0.0 Ok"),
        ("NO\0OP", "500 5.5.2 Error: command not recognized"),
        ("\0NOOP", "500 5.5.2 Error: bad syntax"),
        ("MAIL FROM:<a@b>\0 FOO", "250 2.1.0 Ok"),
        ("RCPT TO:<a\0@b>", "501 5.1.3 Bad recipient address syntax"),
    ],
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name):
    driver = greeted()
    for line, reply in DIALOGUES[name]:
        assert driver.say(line) == reply + "\r\n", line


def test_ehlo_offers():
    driver = greeted()
    assert driver.say("EHLO c").split("\r\n") == [
        "250-mx.example",
        "250-PIPELINING",
        "250-SIZE 10240000",
        "250-VRFY",
        "250-ENHANCEDSTATUSCODES",
        "250-8BITMIME",
        "250-DSN",
        "250 SMTPUTF8",
        "",
    ]
    bare = greeted(
        message_size_limit=0,
        disable_vrfy_command=True,
        smtputf8_enable=False,
        discard_ehlo_keywords=frozenset({"DSN", "8BITMIME"}),
    )
    assert bare.say("EHLO c") == "250-mx.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 ENHANCEDSTATUSCODES\r\n"
    assert "250-VRFY\r\n250-XVERP\r\n250-ENHANCED" in greeted(verp_delimiters="+=").say("EHLO c")


def test_hello_names_are_made_safe():
    driver = greeted()
    driver.say('EHLO a b(c)<d>\\;"@\x07')
    assert driver.machine.hello == Hello("EHLO", "a?b?c??d??????")


def test_a_message():
    driver = in_content()
    assert driver.send(b"Subject: x\r\n\r\n..b\r\n.\r\nQUIT\r\n") == b"250 2.0.0 Ok: queued as X\r\n221 2.0.0 Bye\r\n"
    assert driver.messages == [b"Subject: x\n\n.b\n"]
    [transaction] = driver.transactions
    assert transaction.mail == Mail("a@b.example")
    assert transaction.recipients == [Rcpt("x@mx.example")]
    assert driver.machine.transaction is None
    assert driver.closed == ""
    assert driver.machine.accounting() == "ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5"


def test_nothing_of_a_transaction_is_left_for_the_next():
    """Recipients, parameters and sender of a message that was refused at its end do not show up in the next."""
    refusals = [Reply(554, "5.7.1", "no")]

    def decide(_machine, question):
        return refusals.pop() if isinstance(question, End) and refusals else None

    driver = greeted(decide)
    driver.say("EHLO c")
    driver.say("MAIL FROM:<a@b> SIZE=3 BODY=8BITMIME RET=FULL ENVID=x SMTPUTF8")
    driver.say("RCPT TO:<x@mx>")
    driver.say("DATA")
    assert driver.send(b"x\r\n.\r\n") == b"554 5.7.1 no\r\n"
    driver.content = b""
    assert driver.say("RCPT TO:<y@mx>") == "503 5.5.1 Error: need MAIL command\r\n"
    driver.say("MAIL FROM:<c@d>")
    assert driver.machine.transaction.mail == Mail("c@d")
    assert driver.machine.transaction.recipients == []


def test_refused_commands_change_nothing():
    def decide(_machine, question):
        return Reply(450, "4.0.0", "later") if isinstance(question, Hello | Mail) else None

    driver = greeted(decide)
    driver.say("EHLO c")
    driver.say("MAIL FROM:<a@b>")
    assert driver.machine.hello is None
    assert driver.machine.transaction is None


def test_with_soft_bounce_no_refusal_is_permanent():
    """The first replies are those of Postfix 3.7's ``sendmail -bs``."""
    driver = greeted(soft_bounce=True)
    assert driver.say("FOO") == "400 4.5.2 Error: command not recognized\r\n"
    driver.say("EHLO c")
    assert driver.say("MAIL FROM:<a@b> FOO=1") == "455 4.5.4 Unsupported option: FOO=1\r\n"
    assert driver.machine.accounting() == "ehlo=1 mail=0/1 unknown=0/1 commands=1/3"
    assert driver.send(b"DATA\r\nNOOP\r\n") == b"454 4.5.0 Error: SMTP protocol synchronization\r\n"
    assert greeted(soft_bounce=True, forbid_bare_newline="reject").send(b"NOOP\n").startswith(b"450 4.5.2 ")


@pytest.mark.parametrize("code", [421, 521])
def test_replies_that_end_the_session(code):
    driver = greeted(lambda _machine, question: Reply(code, "", "go") if isinstance(question, Mail) else None)
    assert driver.say("MAIL FROM:<a@b>") == f"{code} go\r\n"
    assert driver.closed == ""
    assert driver.say("NOOP") == ""


@pytest.mark.parametrize(
    "line", ["CONNECT x", "get / HTTP/1.0", "POST /", "Subject: x", "Host:", "<x>", "\x16\x03\x01", "1", ":", "\x01"]
)
def test_other_protocols(line):
    driver = greeted()
    assert driver.say(line) == "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n"
    assert driver.closed == ""
    assert [kind for kind, _, _ in driver.notices()] == ["non_smtp"]
    assert driver.machine.accounting() == "unknown=0/1 commands=0/1"


def test_bad_utf8():
    driver = greeted()
    assert driver.send(b"NOOP \xff\r\n") == b"500 5.5.2 Error: bad UTF-8 syntax\r\n"
    lax = greeted(smtputf8_enable=False)
    assert lax.send(b"NOOP \xff\r\n") == b"250 2.0.0 Ok\r\n"
    assert lax.send(b"MAIL FROM:<\xff@b>\r\n") == b"501 5.1.7 Bad sender address syntax\r\n"


SYNC = b"554 5.5.0 Error: SMTP protocol synchronization\r\n"


@pytest.mark.parametrize(
    ("hello", "first"),
    [
        *itertools.product(["", "HELO c"], ["NOOP", "MAIL FROM:<a@b>", "RSET", "QUIT", "HELP", "VRFY a", "DATA"]),
        *itertools.product(["EHLO c"], ["NOOP", "VRFY a", "DATA", "EHLO d"]),
    ],
)
def test_commands_that_may_not_be_followed_at_once(hello, first):
    driver = greeted()
    if hello:
        driver.say(hello)
    assert driver.send(first.encode() + b"\r\nNOOP\r\n") == SYNC
    assert driver.closed == ""
    assert driver.notices() == [("pipelining", first.split(" ")[0], "NOOP\\r\\n")]


@pytest.mark.parametrize("first", ["MAIL FROM:<a@b>", "RSET", "HELP", "FOO", "ETRN x", "STARTTLS", "AUTH x"])
def test_commands_that_may_be_followed_at_once(first):
    driver = greeted()
    driver.say("EHLO c")
    assert driver.send(first.encode() + b"\r\nRSET\r\n").endswith(b"\r\n250 2.0.0 Ok\r\n")


def test_a_client_that_speaks_first():
    driver = Driver()
    assert driver.greet(b"EHLO c\r\n") == SYNC
    assert driver.notices() == [("pipelining", "CONNECT", "EHLO c\\r\\n")]


def test_pipelining_can_be_tolerated():
    driver = Driver(forbid_unauth_pipelining=False)
    assert driver.greet(b"NOOP\r\nNOOP\r\n") == b"220 mx.example ESMTP test\r\n" + b"250 2.0.0 Ok\r\n" * 2
    assert len(driver.notices()) == 1


def test_all_may_be_sent_at_once_on_standard_input():
    driver = Driver(stand_alone=True)
    reply = driver.greet(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
    assert driver.messages == [b"x\n"]
    assert reply.endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok: queued as X\r\n221 2.0.0 Bye\r\n")


def test_lines_over_the_limit_are_cut():
    driver = greeted()
    driver.say("EHLO c")
    assert driver.say("RCPT TO:<a@b> " + "x" * 2040) == "503 5.5.1 Error: need MAIL command\r\n"
    assert driver.notices() == [("too_long", "EHLO", "RCPT TO:<a@b> xxxxxxxxxxxxxxxx")]
    assert driver.say("NOOP") == "250 2.0.0 Ok\r\n"


def test_lines_without_end_end_the_session():
    driver = greeted()
    driver.say("EHLO c")
    assert driver.send(b"FOO " + b"x" * 4092) == b""
    assert driver.send(b"x" * 100_000 + b"\r\nNOOP\r\n") == b"500 5.5.2 Error: command not recognized\r\n"
    assert driver.closed == "lost connection"
    assert driver.machine.buffered == 0


def test_too_many_errors():
    driver = greeted()
    replies = [driver.say("FOO") for _ in range(20)]
    assert replies[18] == "500 5.5.2 Error: command not recognized\r\n"
    assert replies[19] == replies[18] + "421 4.7.0 mx.example Error: too many errors\r\n"
    assert driver.closed == "too many errors"


def test_a_message_makes_up_for_errors():
    driver = greeted()
    for _ in range(19):
        driver.say("FOO")
    for line in (*ENVELOPE, "DATA"):
        driver.say(line)
    driver.send(b".\r\n")
    for _ in range(19):
        assert driver.say("FOO") == "500 5.5.2 Error: command not recognized\r\n"
    assert driver.closed is None


def test_junk_commands_become_errors():
    driver = greeted()
    replies = [driver.say("NOOP") for _ in range(121)]
    assert set(replies[:120]) == {"250 2.0.0 Ok\r\n"}
    assert replies[120] == "250 2.0.0 Ok\r\n421 4.7.0 mx.example Error: too many errors\r\n"


def test_replies_come_late_after_errors():
    driver = greeted(soft_error_limit=2, error_sleep_time=1)
    for _ in range(4):
        driver.say("FOO")
    assert [e for e in driver.events if isinstance(e, Delay)] == [Delay(1), Delay(1)]


def test_too_many_recipients():
    driver = greeted(recipient_limit=2, recipient_overshoot_limit=1)
    driver.say("EHLO c")
    driver.say("MAIL FROM:<a@b>")
    replies = [driver.say("RCPT TO:<a@b>")[:9] for _ in range(5)]
    assert replies == ["250 2.1.5"] * 2 + ["452 4.5.3"] * 3
    assert driver.machine.accounting() == "ehlo=1 mail=1 rcpt=3/5 commands=5/7"


def test_a_message_over_the_size_limit():
    driver = in_content(message_size_limit=100)
    driver.send(b"x" * 50 + b"\r\n")
    driver.send(b"y" * 80 + b"\r\n")
    driver.send(b"z" * 1000 + b"\r\n")
    assert driver.machine.content_size == 1136
    assert driver.send(b".\r\n") == b"552 5.3.4 Error: message file too big\r\n"
    assert driver.content == b"x" * 50
    assert [kind for kind, _, _ in driver.notices()] == ["size"]
    assert driver.machine.accounting().endswith(" data=0/1 commands=3/4")


def test_helo_can_be_required():
    driver = greeted(helo_required=True)
    assert driver.say("MAIL FROM:<a@b>") == "503 5.5.1 Error: send HELO/EHLO first\r\n"
    assert driver.say("ETRN x") == "503 Error: send HELO/EHLO first\r\n"


def test_bare_newlines_are_noted():
    driver = in_content(forbid_bare_newline="note")
    driver.send(b"a\nb\r\n.\r\n")
    assert driver.messages == [b"a\nb\n"]
    assert driver.machine.accounting() == "ehlo=1 mail=1 rcpt=1 data=1 commands=4 notes=bare_lf"


def test_bare_newlines_are_rejected():
    driver = in_content(forbid_bare_newline="reject")
    assert driver.send(b"a\nb\r\n.\r\n") == b"550 5.5.2 mx.example Error: bare <LF> received\r\n"
    assert driver.messages == []
    assert driver.say("NOOP") == "250 2.0.0 Ok\r\n"
    assert driver.send(b"NOOP\n") == b"550 5.5.2 mx.example Error: bare <LF> received\r\n"
    assert driver.closed == ""


def test_a_bare_newline_is_no_end_of_content():
    driver = in_content()
    assert driver.send(b"a\n.\nMAIL FROM:<evil@b>\n.\r\nx\r\n.\n") == b""
    assert driver.send(b"\r\n.\r\n") == b"250 2.0.0 Ok: queued as X\r\n"
    assert driver.messages == [b"a\nMAIL FROM:<evil@b>\nx\n\n"]


def test_no_event_while_an_answer_is_due():
    driver = greeted()
    driver.machine.receive(b"EHLO c\r\n")
    assert isinstance(driver.machine.next_event(), Hello)
    driver.machine.receive(b"NOOP\r\n")
    assert driver.machine.next_event() is PAUSED
    assert driver.machine.state is State.ANSWER
    driver.machine.reply(Reply(250, "", "mx"))
    driver.run()
    assert driver.output.endswith(b"250 mx\r\n250 2.0.0 Ok\r\n")


def test_no_event_while_too_much_waits_to_be_sent():
    driver = greeted(output_limit=100)
    driver.say("EHLO c")
    driver.machine.receive(b"RSET\r\n" * 100)
    assert driver.machine.next_event() is PAUSED
    assert 100 < len(driver.machine.take_output()) < 130


def test_a_session_is_shut_from_this_side():
    driver = in_content()
    driver.machine.shut(Reply(421, "4.4.2", "timeout"), "timeout")
    assert driver.run() == b"421 4.4.2 timeout\r\n"
    assert driver.closed == "timeout"
    assert driver.send(b"x\r\n.\r\n") == b""


WORDS = st.sampled_from(
    [b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<a@b>\r\n", b"DATA\r\n", b"RSET\r\n", b"FOO\r\n",
     b"x\r\n", b".\r\n", b"\n.\n", b"\r", b"\n", b"\0", b".", b"\xff", b"<", b"HELP\r\n", b"x" * 3000, b"VRFY a\n"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(WORDS, max_size=25), st.lists(st.integers(0, 5000), max_size=6))
def test_pieces_make_no_difference(words, places):
    stream = b"".join(words)
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    whole, cut = Driver(stand_alone=True), Driver(stand_alone=True)
    whole.greet()
    cut.greet()
    whole.send(stream)
    for piece in pieces:
        cut.send(piece)
    assert whole.output == cut.output
    assert whole.messages == cut.messages
    assert whole.machine.accounting() == cut.machine.accounting()
    assert whole.closed == cut.closed


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=30) | WORDS, max_size=20))
def test_any_input_is_answered_or_awaited(chunks):
    driver = Driver()
    driver.greet()
    for chunk in chunks:
        driver.send(chunk)
        assert driver.machine.state is not State.ANSWER
        assert (driver.closed is not None) == (driver.machine.state is State.CLOSED)
        assert driver.machine.buffered <= 4096

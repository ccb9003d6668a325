"""The client's half of SMTP: whole, byte by byte, with trailing data, with hostile servers, and against our server."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.wire.response import Response, printable
from pyfix.wire.smtp_client import (
    RESTING,
    Envelope,
    Garbage,
    Limits,
    ProtocolError,
    Recipient,
    Replied,
    SmtpClient,
    Stage,
    State,
    uxtext,
)

LIMITS = Limits(line=2048, text=2048, lines=50)
PLAIN = b"220 mx.example ESMTP\r\n250 mx.example\r\n"
PIPELINING = b"220 mx.example ESMTP\r\n250-mx.example at your service\r\n250-PIPELINING\r\n250 SIZE 1000\r\n"
ONE = Envelope("s@example.com", [Recipient("a@example.net")])
TWO = Envelope("s@example.com", [Recipient("a@example.net"), Recipient("b@example.net")])


def client(fold=998, limits=LIMITS):
    return SmtpClient("client.example", limits, fold=fold)


def events(machine, data, step=0):
    """What a machine makes of bytes, fed whole or in pieces."""
    found = []
    pieces = [data] if not step else [data[i : i + step] for i in range(0, len(data), step)]
    for piece in pieces:
        machine.receive(piece)
        while (event := machine.next_event()) is not None:
            found.append(event)
    return found


def ready(hello=PLAIN):
    machine = client()
    events(machine, hello)
    assert machine.state is State.READY
    machine.data_to_send()
    return machine


def summary(found):
    return [(event.stage.value, event.response.code, event.recipient) for event in found]


# greeting


@pytest.mark.parametrize("step", [0, 1, 7])
def test_the_greeting_leads_to_ehlo_and_its_keywords(step):
    machine = client()
    found = events(machine, PIPELINING, step)
    assert summary(found) == [("greeting", 220, -1), ("EHLO", 250, -1)]
    assert machine.data_to_send() == b"EHLO client.example\r\n"
    assert machine.state is State.READY
    assert machine.capabilities == {"PIPELINING": "", "SIZE": "1000"}
    assert (machine.greeting_name, machine.hello_name, machine.size_limit) == ("mx.example", "mx.example", 1000)


def test_helo_follows_where_ehlo_is_refused():
    machine = client()
    found = events(machine, b"220 x\r\n502 what?\r\n250 x\r\n")
    assert summary(found) == [("greeting", 220, -1), ("EHLO", 502, -1), ("HELO", 250, -1)]
    assert machine.data_to_send() == b"EHLO client.example\r\nHELO client.example\r\n"
    assert machine.state is State.READY
    assert machine.capabilities == {}


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        (b"554 go away\r\n", Stage.GREETING),
        (b"421 busy\r\n", Stage.GREETING),
        (b"250 odd\r\n", None),
        (b"220 x\r\n421 busy\r\n", Stage.EHLO),
        (b"220 x\r\n500 no\r\n550 no\r\n", Stage.HELO),
    ],
)
def test_a_server_that_refuses_to_talk(data, stage):
    machine = client()
    found = events(machine, data)
    if stage is None:
        assert machine.state is State.HELLO
        return
    assert found[-1].stage is stage
    assert machine.state is State.REFUSED
    machine.data_to_send()
    machine.quit()
    assert machine.data_to_send() == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("line", "keyword", "parameters"),
    [
        (b"AUTH=LOGIN PLAIN", "AUTH", "LOGIN PLAIN"),
        (b"size 10", "SIZE", "10"),
        (b"X\xc3\xa4 y", "X\xe4", "y"),
        (b"8BITMIME", "8BITMIME", ""),
    ],
)
def test_keywords(line, keyword, parameters):
    machine = ready(b"220 x\r\n250-x\r\n250 " + line + b"\r\n")
    assert machine.capabilities[keyword] == parameters


@pytest.mark.parametrize("size", [b"", b"x", b"-5", b"+5", b"1_000", b"9" * 30, "\uff11".encode()])
def test_a_size_that_is_no_number_is_no_limit(size):
    assert ready(b"220 x\r\n250-x\r\n250 SIZE " + size + b"\r\n").size_limit == 0


# a transaction


@pytest.mark.parametrize("step", [0, 1])
def test_a_message_without_pipelining_waits_for_each_reply(step):
    machine = ready()
    machine.begin(TWO)
    sent = [machine.data_to_send()]
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"550 no\r\n", b"354 go\r\n"):
        events(machine, reply, step)
        sent.append(machine.data_to_send())
    assert sent == [
        b"MAIL FROM:<s@example.com>\r\n",
        b"RCPT TO:<a@example.net>\r\n",
        b"RCPT TO:<b@example.net>\r\n",
        b"DATA\r\n",
        b"",
    ]
    assert machine.state is State.CONTENT
    assert machine.accepted == [0]
    assert machine.content(b"x\n.y\n") + machine.end() == b"x\r\n..y\r\n.\r\n"
    found = events(machine, b"250 2.0.0 queued\r\n", step)
    assert summary(found) == [("end of data", 250, -1)]
    assert machine.reusable


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_message_with_pipelining_goes_out_at_once(step):
    machine = ready(PIPELINING)
    machine.begin(TWO)
    assert machine.data_to_send() == (
        b"MAIL FROM:<s@example.com>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    )
    found = events(machine, b"250 ok\r\n250 ok\r\n451-try\r\n451 later\r\n354 go\r\n", step)
    assert summary(found) == [("MAIL", 250, -1), ("RCPT", 250, 0), ("RCPT", 451, 1), ("DATA", 354, -1)]
    assert machine.state is State.CONTENT
    assert machine.accepted == [0]


@pytest.mark.parametrize("hello", [PLAIN, PIPELINING])
def test_a_probe_ends_before_data(hello):
    machine = ready(hello)
    machine.begin(TWO._replace(probe=True))
    sent = machine.data_to_send()
    found = []
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"550 no\r\n"):
        found += events(machine, reply)
        sent += machine.data_to_send()
    assert sent == b"MAIL FROM:<s@example.com>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<b@example.net>\r\n"
    assert summary(found) == [("MAIL", 250, -1), ("RCPT", 250, 0), ("RCPT", 550, 1)]
    assert machine.state is State.STALE
    machine.reset()
    events(machine, b"250 ok\r\n")
    assert machine.reusable


def test_a_second_message_on_the_same_connection():
    machine = ready(PIPELINING)
    for _ in range(2):
        machine.begin(ONE)
        assert machine.data_to_send().endswith(b"DATA\r\n")
        events(machine, b"250 ok\r\n250 ok\r\n354 go\r\n")
        assert machine.content(b".") + machine.end() == b"..\r\n.\r\n"
        events(machine, b"250 ok\r\n")
        assert machine.reusable


def test_354_without_recipients_gets_an_empty_message():
    machine = ready(PIPELINING)
    machine.begin(ONE)
    machine.data_to_send()
    found = events(machine, b"250 ok\r\n550 no\r\n354 go\r\n")
    assert summary(found)[-1] == ("DATA", 354, -1)
    assert machine.state is State.END
    assert machine.data_to_send() == b".\r\n"
    events(machine, b"554 no valid recipients\r\n")
    assert machine.reusable


def test_recipients_do_not_count_where_the_sender_was_refused():
    machine = ready(PIPELINING)
    machine.begin(ONE)
    machine.data_to_send()
    events(machine, b"550 no\r\n250 sure\r\n354 go\r\n")
    assert machine.accepted == []
    assert machine.state is State.END


@pytest.mark.parametrize(
    ("hello", "replies", "state"),
    [
        (PLAIN, b"550 no\r\n", State.READY),
        (PLAIN, b"250 ok\r\n550 no\r\n", State.STALE),
        (PLAIN, b"250 ok\r\n250 ok\r\n451 no\r\n", State.STALE),
        (PIPELINING, b"550 no\r\n503 no\r\n503 no\r\n", State.STALE),
        (PIPELINING, b"250 ok\r\n550 no\r\n554 no\r\n", State.STALE),
        (PIPELINING, b"250 ok\r\n250 ok\r\n451 no\r\n", State.STALE),
    ],
)
def test_refusals_leave_a_transaction_that_rset_ends(hello, replies, state):
    machine = ready(hello)
    machine.begin(ONE)
    events(machine, replies)
    assert machine.state is state
    machine.data_to_send()
    if state is State.STALE:
        machine.reset()
        assert machine.data_to_send() == b"RSET\r\n"
        events(machine, b"250 ok\r\n")
    assert machine.reusable


def test_a_refused_rset_ends_the_conversation():
    machine = ready()
    machine.begin(ONE)
    events(machine, b"250 ok\r\n550 no\r\n")
    machine.reset()
    events(machine, b"502 no\r\n")
    assert machine.state is State.CLOSED


def test_quit_while_rset_is_unanswered():
    machine = ready()
    machine.begin(ONE)
    events(machine, b"250 ok\r\n550 no\r\n")
    machine.reset()
    machine.quit()
    assert summary(events(machine, b"250 ok\r\n221 bye\r\n")) == [("RSET", 250, -1), ("QUIT", 221, -1)]
    assert machine.state is State.CLOSED


@pytest.mark.parametrize("code", [b"421", b"521"])
def test_a_server_that_says_it_will_close_is_not_used_again(code):
    machine = ready(PIPELINING)
    machine.begin(ONE)
    events(machine, b"250 ok\r\n" + code + b" closing\r\n554 no\r\n")
    assert machine.doomed
    machine.reset()
    events(machine, b"250 ok\r\n")
    assert not machine.reusable


def test_bytes_that_nobody_asked_for_forbid_reuse():
    machine = ready(PIPELINING)
    machine.begin(ONE)
    events(machine, b"250 ok\r\n250 ok\r\n354 go\r\n")
    machine.end()
    events(machine, b"250 ok\r\n250 and another\r\n")
    assert machine.state is State.READY
    assert not machine.reusable


def test_a_verdict_that_comes_before_the_end_waits_for_it():
    machine = ready(PIPELINING)
    machine.begin(ONE)
    found = events(machine, b"250 ok\r\n250 ok\r\n354 go\r\n552 too big\r\n")
    assert found[-1].stage is Stage.DATA
    machine.end()
    assert summary([machine.next_event()]) == [("end of data", 552, -1)]


@pytest.mark.parametrize(
    ("offered", "envelope", "mail", "rcpt"),
    [
        ("", Envelope("", [Recipient("a@b", "rfc822;x", 1)], 9, "8bit", True, "e", "FULL"), "", ""),
        ("SIZE", ONE._replace(size=4096), " SIZE=4096", ""),
        ("8BITMIME", ONE._replace(encoding="8bit"), " BODY=8BITMIME", ""),
        ("8BITMIME", ONE._replace(encoding="7bit"), " BODY=7BIT", ""),
        ("8BITMIME", ONE, "", ""),
        ("DSN", ONE._replace(envid="a+b =\u00e9", ret="HDRS"), " ENVID=a+2Bb+20+3D+C3+A9 RET=HDRS", ""),
        ("DSN", Envelope("s", [Recipient("a", notify=1)]), "", " NOTIFY=NEVER"),
        ("DSN", Envelope("s", [Recipient("a", notify=14)]), "", " NOTIFY=SUCCESS,FAILURE,DELAY"),
        ("DSN", Envelope("s", [Recipient("a", "rfc822;a+b@c d")]), "", " ORCPT=rfc822;a+2Bb@c+20d"),
        ("DSN", Envelope("s", [Recipient("a", "UTF-8;\u00e9+@c")]), "", r" ORCPT=UTF-8;\x{E9}\x{2B}@c"),
        ("SMTPUTF8", ONE._replace(smtputf8=True), " SMTPUTF8", ""),
    ],
)
def test_parameters_are_sent_where_they_are_offered(offered, envelope, mail, rcpt):
    machine = ready(b"220 x\r\n250-x\r\n250-PIPELINING\r\n250 " + offered.encode() + b"\r\n")
    machine.begin(envelope)
    lines = machine.data_to_send().decode().split("\r\n")
    assert lines[0] == f"MAIL FROM:<{envelope.sender}>{mail}"
    assert lines[1] == f"RCPT TO:<{envelope.recipients[0].address}>{rcpt}"


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<evil>", "a\nb", "a\0b", "a\x7fb"])
def test_control_characters_never_reach_the_wire(address):
    machine = ready(PIPELINING)
    with pytest.raises(ValueError, match="control character"):
        machine.begin(Envelope(address, [Recipient("a")]))


@pytest.mark.parametrize(
    ("method", "arguments"), [("begin", (ONE,)), ("content", (b"x",)), ("end", ()), ("reset", ()), ("quit", ())]
)
def test_orders_out_of_turn_are_bugs(method, arguments):
    machine = client()
    with pytest.raises(ValueError, match="not allowed in state greeting"):
        getattr(machine, method)(*arguments)


# replies


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("250 2.1.5 Ok", "2.1.5"),
        ("250 2.1.5", "2.1.5"),
        ("250   2.1.5 Ok", "2.1.5"),
        ("250 Ok", "2.0.0"),
        ("250", "2.0.0"),
        ("550 4.1.1 odd", "5.0.0"),
        ("550 5.1.1", "5.1.1"),
        ("550 5.1.1234 x", "5.0.0"),
        ("550 5.1 x", "5.0.0"),
        ("550 5.1.1x", "5.0.0"),
        ("550-5.1.1 a\n550 5.7.1 b", "5.7.1"),
        ("550-5.1.1 a\n550 b", "5.0.0"),
        ("354 2.0.0 go", "5.5.0"),
        ("199 x", "5.5.0"),
        ("699 x", "5.5.0"),
    ],
)
def test_status(text, status):
    assert Response(int(text.rpartition("\n")[2][:3]), text).status == status


@pytest.mark.parametrize("step", [0, 1])
def test_lines_of_a_reply_are_joined_and_cleaned(step):
    machine = client()
    (found,) = events(machine, b"554-no\x1b[31m\r\n554-\xc3\xa9 \xff\xe2\x80\xa8\n554 end\t\r\n", step)
    assert found == Replied(Stage.GREETING, Response(554, "554-no?[31m\n554-\xe9 ??\n554 end?"), -1)
    assert found.response.line == "554-no?[31m 554-\xe9 ?? 554 end?"


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("line", [b"", b"hello", b"22 x", b"2200 x", b"220x", b"\xd9\xa1\xd9\xa1\xd9\xa1 x"])
def test_a_line_that_is_no_reply_is_passed_on_and_skipped(line, step):
    machine = client()
    found = events(machine, line + b"\r\n220 x\r\n", step)
    assert found[0] == Garbage(printable(line))
    assert found[1].response.code == 220


def test_an_overlong_line_is_cut_and_its_rest_skipped():
    limits = Limits(line=10, text=100, lines=5)
    data = b"554-" + b"x" * 500 + b"\r\n554 end\r\n"
    whole = events(client(limits=limits), data)
    assert whole[0].response.text == "554-xxxxxx\n554 end"
    assert events(client(limits=limits), data, 1) == whole


SAID = [
    "250 2.1.5 Ok",
    "250 Ok",
    "550 5.1.1 no",
    "450-later\n450 Ok",
    "550",
    *(f"250 {number}" for number in range(12)),
]


@given(st.lists(st.sampled_from(SAID), min_size=1, max_size=60))
def test_replies_that_repeat_are_read_as_they_stand(said):
    machine = ready(PIPELINING)
    machine.begin(Envelope("s@example.com", [Recipient(f"r{number}@example.net") for number in range(len(said))]))
    found = events(machine, "".join([f"{text}\n" for text in ["250 Ok", *said]]).replace("\n", "\r\n").encode())
    assert [event.response.text for event in found[1:]] == said
    assert [event.recipient for event in found[1:]] == list(range(len(said)))
    assert machine.accepted == [number for number, text in enumerate(said) if text.startswith("2")]


def test_a_line_that_has_not_ended_forbids_reuse():
    machine = client(limits=Limits(line=10, text=100, lines=5))
    events(machine, b"220 x\r\n250 " + b"x" * 20)
    assert (machine.state, machine.reusable) == (State.READY, False)


def test_a_reply_without_end_is_bounded():
    machine = client(limits=Limits(line=100, text=300, lines=50))
    with pytest.raises(ProtocolError, match="too many lines"):
        events(machine, b"220-x\r\n" * 51)
    assert machine.state is State.CLOSED
    assert machine.next_event() is None


def test_text_beyond_the_limit_is_not_kept_but_the_last_line_is():
    machine = client(limits=Limits(line=100, text=20, lines=50))
    (found,) = events(machine, b"554-0123456789\r\n" * 40 + b"554 5.7.1 end\r\n")
    assert found.response.text == "554-0123456789\n554-0123456789\n554 5.7.1 end"
    assert found.response.status == "5.7.1"


def test_output_without_end_that_nobody_asked_for_is_refused():
    machine = ready()
    machine.receive(b"x" * 2000)
    with pytest.raises(ProtocolError, match="unexpected output"):
        machine.receive(b"x" * 100)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_pieces_make_no_difference(data):
    """However the bytes of a server are cut, the events are the same, and no error but the declared one appears."""
    lines = st.sampled_from(
        [
            b"220 x",
            b"250 ok",
            b"250-more",
            b"250 PIPELINING",
            b"250-PIPELINING",
            b"354 go",
            b"550 no",
            b"421 bye",
            b"junk",
        ]
    )
    stream = b"\r\n".join(data.draw(st.lists(lines | st.binary(max_size=30), max_size=15))) + b"\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    limits = Limits(line=20, text=40, lines=10)
    assert _story(limits, [stream]) == _story(limits, pieces)


def _story(limits, pieces):
    """Drives a machine through a message; what it saw and sent."""
    machine = client(limits=limits)
    story = []
    for piece in pieces:
        try:
            machine.receive(piece)
            while True:
                event = machine.next_event()
                if event is not None:
                    story.append(event)
                    story.append(machine.data_to_send())
                elif machine.state is State.READY and not any(e == "begun" for e in story):
                    story.append("begun")
                    machine.begin(TWO)
                elif machine.state is State.CONTENT:
                    story.append(machine.content(b"x") + machine.end())
                else:
                    break
        except ProtocolError:
            # How much unasked output comes at once depends on the cut; that it ends the conversation does not.
            break
    return [entry for entry in story if entry not in ("begun", b"")]


def test_content_is_folded_before_dots_are_doubled():
    machine = SmtpClient("c", LIMITS, fold=4)
    events(machine, PIPELINING)
    machine.begin(ONE)
    events(machine, b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert machine.content(b"1234.5\n..\n") + machine.end() == b"1234\r\n .5\r\n...\r\n.\r\n"


def test_utf8_original_recipients_are_encoded():
    assert uxtext("\U0001f600=\\ a") == r"\x{1F600}\x{3D}\x{5C}\x{20}a"


def test_resting_states_await_nothing():
    assert State.ENVELOPE not in RESTING
    machine = client()
    assert machine.awaited is Stage.GREETING
    events(machine, PLAIN)
    assert machine.awaited is None
    assert machine.state in RESTING

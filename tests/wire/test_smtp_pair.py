"""Our client's machine joined to our server's: what one means is what the other understands."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.mail.address import quote_address
from pyfix.wire.reply import OK, Reply
from pyfix.wire.smtp_client import Envelope, Limits, Recipient, SmtpClient, State
from pyfix.wire.smtp_dialogue import NEED_DATA, PAUSED, Begin, Content, End, Hello, Mail, Rcpt, Settings
from pyfix.wire.smtp_server import SmtpServer

SETTINGS = Settings(
    hostname="server.example",
    banner="server.example ESMTP",
    line_length_limit=4096,
    message_size_limit=0,
    recipient_limit=100,
    recipient_overshoot_limit=100,
    junk_command_limit=100,
    soft_error_limit=100,
    hard_error_limit=200,
    error_sleep_time=0,
    helo_required=False,
    disable_vrfy_command=False,
    strict_rfc821_envelopes=False,
    smtputf8_enable=True,
    forbid_unauth_pipelining=True,
    forbid_bare_newline="normalize",
    forbid_bare_newline_reject_code=550,
    forbidden_commands=frozenset(),
    forbid_non_letters=True,
    noop_commands=frozenset(),
    soft_bounce=False,
    discard_ehlo_keywords=frozenset(),
    output_limit=100_000,
)


class Pair:
    """Both machines; ``refuse`` are the recipients that the server does not want."""

    def __init__(self, step=0, refuse=(), keywords=("PIPELINING", "SIZE", "8BITMIME", "DSN", "SMTPUTF8")):
        self.client = SmtpClient("client.example", Limits(2048, 2048, 100), fold=998)
        self.server = SmtpServer(SETTINGS)
        self.step = step
        self.refuse = refuse
        self.keywords = keywords
        self.replies = []
        # what the server took
        self.messages = []
        self._content = []
        self.server.greet()

    def pieces(self, data):
        return [data[i : i + self.step] for i in range(0, len(data), self.step)] if self.step else [data]

    def turn(self, data=b""):
        """Lets both talk until neither has anything to say."""
        while data or not self.quiet():
            for piece in self.pieces(data):
                self.server.receive(piece)
                self.serve()
            for piece in self.pieces(self.server.take_output()):
                self.client.receive(piece)
                while (event := self.client.next_event()) is not None:
                    self.replies.append(event)
            data = self.client.data_to_send()

    def quiet(self):
        self.serve()
        return not self.server._output

    def serve(self):
        while (event := self.server.next_event()) not in (NEED_DATA, PAUSED):
            match event:
                case Hello():
                    self.server.reply(Reply(250, "", "\n".join(["server.example", *self.keywords])))
                case Mail():
                    self.server.reply(OK)
                case Rcpt():
                    self.server.reply(Reply(550, "5.1.1", "no") if event.address in self.refuse else OK)
                case Begin():
                    self._content = []
                    self.server.reply(Reply(354, "", "go"))
                case Content():
                    self._content.append(event.data)
                case End():
                    transaction = self.server.transaction
                    recipients = [(r.address, r.orcpt, r.notify) for r in transaction.recipients]
                    self.messages.append((transaction.mail, recipients, b"".join(self._content)))
                    self.server.reply(Reply(250, "2.0.0", "Ok: queued"))

    def send(self, envelope, content):
        self.client.begin(envelope)
        self.turn(self.client.data_to_send())
        if self.client.state is State.CONTENT:
            self.turn(self.client.content(content) + self.client.end())


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("keywords", [(), ("PIPELINING", "DSN", "SMTPUTF8", "8BITMIME", "SIZE")])
def test_messages_one_after_the_other(step, keywords):
    pair = Pair(step, refuse={"b@example"}, keywords=keywords)
    pair.turn()
    assert pair.client.state is State.READY
    recipients = [Recipient("a@example", "rfc822;x+y=z@example", 6), Recipient("b@example"), Recipient('"c d"@example')]
    envelope = Envelope("s@example", recipients, 100, "8bit", smtputf8=False, envid="a +b", ret="HDRS")
    for _ in range(2):
        pair.send(envelope, b"Subject: x\n\n.\n..\n\nend")
        assert pair.client.reusable
    mail, taken, content = pair.messages[1]
    assert content == b"Subject: x\n\n.\n..\n\nend\n"
    if keywords:
        assert mail == Mail("s@example", 100, "8bit", smtputf8=False, envid="a +b", ret="HDRS")
        assert taken == [("a@example", "rfc822;x+y=z@example", 6), ("c d@example", "", 0)]
    else:
        assert mail == Mail("s@example")
        assert taken == [("a@example", "", 0), ("c d@example", "", 0)]
    pair.client.quit()
    pair.turn(pair.client.data_to_send())
    assert pair.client.state is State.CLOSED


def test_all_recipients_refused():
    pair = Pair(refuse={"a@example"})
    pair.turn()
    pair.send(Envelope("", [Recipient("a@example")]), b"x")
    assert pair.client.state is State.STALE
    pair.client.reset()
    pair.turn(pair.client.data_to_send())
    assert pair.client.reusable
    pair.send(Envelope("", [Recipient("b@example")]), b"x")
    assert len(pair.messages) == 1


LOCAL = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


@settings(max_examples=80, deadline=None)
@given(LOCAL, LOCAL, st.binary(max_size=200).map(lambda b: b.replace(b"\r", b"")))
def test_any_address_and_any_content_arrive(sender, recipient, content):
    pair = Pair()
    pair.turn()
    sender, recipient = f"{sender}@example", f"{recipient}@example"
    envelope = Envelope(
        quote_address(sender),
        [Recipient(quote_address(recipient), f"utf-8;{recipient}")],
        smtputf8=True,
        envid=ascii(sender),
    )
    pair.send(envelope, content)
    ((mail, ((address, orcpt, _),), received),) = pair.messages
    assert (mail.sender, address, orcpt, mail.envid) == (sender, recipient, f"utf-8;{recipient}", ascii(sender))
    assert received == (content if content.endswith(b"\n") or not content else content + b"\n")

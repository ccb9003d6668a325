"""A driver of the SMTP server machine that answers at once, for tests."""

from pyfix.wire.reply import Reply
from pyfix.wire.smtp_command import GO_AHEAD, ehlo_reply, helo_reply
from pyfix.wire.smtp_dialogue import (
    Begin,
    Close,
    Content,
    Delay,
    End,
    Hello,
    Mail,
    Notice,
    Rcpt,
    Settings,
    Verify,
    Wait,
)
from pyfix.wire.smtp_server import SmtpServer

DEFAULTS = {
    "hostname": "mx.example",
    "banner": "mx.example ESMTP test",
    "line_length_limit": 2048,
    "message_size_limit": 10240000,
    "recipient_limit": 1000,
    "recipient_overshoot_limit": 1000,
    "junk_command_limit": 100,
    "soft_error_limit": 10,
    "hard_error_limit": 20,
    "error_sleep_time": 0,
    "helo_required": False,
    "disable_vrfy_command": False,
    "strict_rfc821_envelopes": False,
    "smtputf8_enable": True,
    "forbid_unauth_pipelining": True,
    "forbid_bare_newline": "normalize",
    "forbid_bare_newline_reject_code": 550,
    "forbidden_commands": frozenset({b"CONNECT", b"GET", b"POST"}),
    "forbid_non_letters": True,
    "noop_commands": frozenset(),
    "soft_bounce": False,
    "discard_ehlo_keywords": frozenset(),
    "output_limit": 65536,
}


class Driver:
    """Answers every question as ``decide`` says, by default with success."""

    def __init__(self, decide=None, **settings):
        self.machine = SmtpServer(Settings(**(DEFAULTS | settings)))
        self.decide = decide or (lambda _machine, _question: None)
        self.events = []
        self.messages = []
        self.content = b""
        self.output = b""
        self.closed = None
        self.transactions = []

    def greet(self, early=b""):
        self.machine.receive(early)
        self.machine.greet()
        return self.run()

    def send(self, data):
        """What the server says to this, without what it said before."""
        self.machine.receive(data)
        return self.run()

    def say(self, line):
        return self.send(line.encode() + b"\r\n").decode()

    def run(self):
        before = len(self.output)
        while True:
            event = self.machine.next_event()
            if isinstance(event, Wait):
                output = self.machine.take_output()
                self.output += output
                if not output:
                    return self.output[before:]
            else:
                self.take(event)

    def take(self, event):
        self.events.append(event)
        match event:
            case Content(data):
                self.content += data
            case Close(reason):
                self.closed = reason
            case Delay() | Notice():
                pass
            case _:
                self.machine.reply(self.answer(event))

    def answer(self, question):
        machine = self.machine
        if (reply := self.decide(machine, question)) is not None:
            return reply
        match question:
            case Hello("EHLO"):
                return ehlo_reply(machine.settings)
            case Hello():
                return helo_reply(machine.settings)
            case Mail():
                return Reply(250, "2.1.0", "Ok")
            case Rcpt():
                return Reply(250, "2.1.5", "Ok")
            case Verify(_, text):
                return Reply(252, "2.0.0", text)
            case Begin():
                return GO_AHEAD
            case End(error):
                if error is not None:
                    return error
                self.transactions.append(machine.transaction)
                self.messages.append(self.content)
                self.content = b""
                return Reply(250, "2.0.0", "Ok: queued as X")
        raise AssertionError(question)

    def notices(self):
        return [(e.kind, e.where, e.text) for e in self.events if isinstance(e, Notice)]

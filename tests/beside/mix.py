"""The mix of messages that both mail systems are given, as data.

A message's recipients are in domains of its own, ``{n}`` for its name, so that no message's fate hangs on another's:
a destination that fails is left alone for a while. The domain's suffix says which next hop takes the mail (world.py),
the local part what that answers.
"""

from typing import NamedTuple

ORIGIN = "here.example"

# Mail exchangers: the suffix of a domain, and the records that a domain below it has.
_SUFFIXES = {
    "sender.example": "1", "sink.example": "1", "nodsn.example": "21", "helo.example": "22", "small.example": "23",
    "seven.example": "24", "ascii.example": "25", "slow.example": "26", "busy.example": "31", "closed.example": "32",
    "drop.example": "33", "silent.example": "34", "nohelo.example": "35", "refused.example": "40",
}  # fmt: skip
_RECORDS = {
    "backup.example": [("MX", ["10 mx40.hosts.example.", "20 mx1.hosts.example."])],
    "refusing.example": [("MX", ["10 mx31.hosts.example.", "20 mx32.hosts.example."])],
    "address.example": [("A", ["{prefix}.1"])],
    "nodata.example": [("TXT", ["text"])],
    "servfail.example": [("MX", "SERVFAIL"), ("A", "SERVFAIL"), ("AAAA", "SERVFAIL")],
    "nullmx.example": [("MX", ["0 ."])],
    "badmx.example": [("MX", ["10 nowhere.hosts.example."])],
    "loop.example": [("MX", ["10 mail.here.example."])],
} | {suffix: [("MX", [f"10 mx{number}.hosts.example."])] for suffix, number in _SUFFIXES.items()}

TRANSPORTS = (
    "error.example=error:5.1.6 Moved away", "plainerror.example=error:Mail is not wanted here",
    "retry.example=retry:4.3.2 Come back later", "softerror.example=error:4.7.0 Not today",
    "discard.example=discard:quietly", "detour.example=smtp:[mx1.hosts.example]",
    "literal.example=relay:[{prefix}.1]:25", "closedport.example=smtp:[{prefix}.1]:26",
    "plainretry.example=retry:Come back later",
)  # fmt: skip

OUTCOMES = {
    "good": "ok@{n}.sink.example",
    "rcpt4": "rcpt4@{n}.sink.example",
    "rcpt5": "rcpt5@{n}.sink.example",
    "full": "rcptfull@{n}.sink.example",
    "plain": "rcptplain@{n}.sink.example",
    "many": "rcptmany@{n}.sink.example",
    "closes": "rcptclose@{n}.sink.example",
    "drops": "rcptdrop@{n}.sink.example",
    "data4": "data4@{n}.sink.example",
    "data5": "data5@{n}.sink.example",
    "datadrop": "datadrop@{n}.sink.example",
    "dot4": "dot4@{n}.sink.example",
    "dot5": "dot5@{n}.sink.example",
    "dotplain": "dotplain@{n}.sink.example",
    "dotdrop": "dotdrop@{n}.sink.example",
    "busy": "ok@{n}.busy.example",
    "closed": "ok@{n}.closed.example",
    "drop": "ok@{n}.drop.example",
    "silent": "ok@{n}.silent.example",
    "nohelo": "ok@{n}.nohelo.example",
    "helo": "ok@{n}.helo.example",
    "small": "ok@{n}.small.example",
    "slow": "ok@{n}.slow.example",
    "refused": "ok@{n}.refused.example",
    "backup": "ok@{n}.backup.example",
    "refusing": "ok@{n}.refusing.example",
    "address": "ok@{n}.address.example",
    "missing": "ok@{n}.missing.example",
    "nodata": "ok@{n}.nodata.example",
    "servfail": "ok@{n}.servfail.example",
    "nullmx": "ok@{n}.nullmx.example",
    "badmx": "ok@{n}.badmx.example",
    "loop": "ok@{n}.loop.example",
    "error": "ok@error.example",
    "plainerror": "ok@plainerror.example",
    "softerror": "ok@softerror.example",
    "retry": "ok@retry.example",
    "plainretry": "ok@plainretry.example",
    "discard": "ok@discard.example",
    "detour": "ok@detour.example",
    "literal": "ok@literal.example",
    "relay": "ok@relay.example",
    "local": "alice@here.example",
    "nouser": "nobody-there@here.example",
}


class Message(NamedTuple):
    """``way`` is smtp or sendmail. The messages of a wave are given when those before have settled."""

    name: str
    recipients: tuple[str, ...]
    way: str
    sender: str
    content: str
    # parameters of MAIL and of every RCPT
    mail: str = ""
    rcpt: str = ""
    # sendmail's options; without them, "-i -f SENDER" is what it is given
    words: tuple[str, ...] | None = None
    wave: int = 1

    def lines(self):
        """What is said in an SMTP session."""
        recipients = [f"RCPT TO:<{recipient}>{self.rcpt}" for recipient in self.recipients]
        return ["EHLO client.example", f"MAIL FROM:<{self.sender}>{self.mail}", *recipients, "DATA", "QUIT"]

    def arguments(self):
        """sendmail's command line."""
        words = ("-i", "-f", self.sender) if self.words is None else self.words
        return [*words, *self.recipients]


HEADER = "From: Sender <{n}@{n}.sender.example>\nTo: x@here.example\nSubject: {n}\nMessage-ID: <{n}@mix.example>\n"
DATE = "Date: Mon, 1 Jan 2024 12:00:00 +0100\n"
PLAIN = f"{HEADER}{DATE}\nThe body of {{n}}.\n"
SENDER = "{n}@{n}.sender.example"


def _message(name, recipients, way, sender=SENDER, content=PLAIN, words=None, **more):
    def fill(text):
        return text.replace("{n}", name)

    recipients = (recipients,) if isinstance(recipients, str) else recipients
    words = None if words is None else tuple(map(fill, words))
    return Message(name, tuple(map(fill, recipients)), way, fill(sender), fill(content), words=words, **more)


def _both(name, *arguments, **more):
    return [_message(f"{name}-{way}", *arguments, way=way, **more) for way in ("smtp", "sendmail")]


def _outcomes():
    for name, recipient in OUTCOMES.items():
        yield from _both(name, recipient)


def _notifications():
    variants = ("NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE", "SUCCESS,FAILURE,DELAY")
    fates = {
        "good": "ok@{n}.sink.example", "nodsn": "ok@{n}.nodsn.example", "rcpt4": "rcpt4@{n}.sink.example",
        "rcpt5": "rcpt5@{n}.sink.example", "local": "bob@here.example", "error": "ok@error.example",
    }  # fmt: skip
    for number, notify in enumerate(variants):
        for fate, recipient in fates.items():
            yield _message(f"notify{number}-{fate}", recipient, "smtp", rcpt=f" NOTIFY={notify}")
        for fate in ("good", "rcpt5"):
            words = ("-i", "-f", SENDER, "-N", notify.lower(), "-V", "id+{n}", "-R", "hdrs")
            yield _message(f"notify{number}-{fate}-sendmail", fates[fate], "sendmail", words=words)
    full = " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bone@elsewhere.example"
    for ret in ("FULL", "HDRS"):
        for fate in ("good", "nodsn", "rcpt5", "local"):
            mail = f" RET={ret} ENVID=QQ+2B{ret}"
            yield _message(f"ret-{ret.lower()}-{fate}", fates[fate], "smtp", mail=mail, rcpt=full)
    yield _message("discard-success", "ok@discard.example", "smtp", rcpt=" NOTIFY=SUCCESS")


def _null_senders():
    for fate in ("good", "rcpt4", "rcpt5", "local", "error", "nullmx"):
        yield from _both(f"null-{fate}", OUTCOMES[fate], sender="")
    # Their notices cannot be delivered, either.
    for sender in ("rcpt5@{n}.sink.example", "ok@{n}.nullmx.example", "nobody@here.example"):
        suffix = sender.split(".")[-2]
        yield _message(f"double-{suffix}", "ok@error.example", "smtp", sender=sender)
    yield _message("later-notice", "ok@error.example", "smtp", sender="later@{n}.sink.example")
    yield _message("bob-notice", "ok@error.example", "smtp", sender="bob@here.example")


def _several():
    groups = {
        "all": ("ok", "ok.2", "ok.3"),
        "mixed": ("ok", "rcpt4", "rcpt5"),
        "failing": ("rcpt5", "rcptplain", "rcptmany"),
        "waiting": ("rcpt4", "rcpt4.2", "later"),
        "some-late": ("ok", "later", "later.2"),
    }
    for name, words in groups.items():
        yield from _both(f"several-{name}", tuple(f"{word}@{{n}}.sink.example" for word in words))
    everywhere = (
        "ok@{n}.sink.example", "alice@here.example", "ok@error.example", "rcpt5@{n}.nodsn.example",
        "bob+x@here.example", "ok@discard.example", "ok@{n}.refused.example", "ok@{n}.missing.example",
    )  # fmt: skip
    yield from _both("several-everywhere", everywhere)
    yield from _both("several-twice", ("ok@{n}.sink.example", "OK@{n}.sink.example", "ok@{n}.sink.example"))
    yield _message("several-notify", ("ok@{n}.sink.example", "rcpt5@{n}.sink.example", "rcpt4@{n}.sink.example"),
                   "smtp", rcpt=" NOTIFY=SUCCESS,FAILURE,DELAY")  # fmt: skip
    yield _message("several-fifty", tuple(f"r{i}@{{n}}.sink.example" for i in range(55)), "smtp")
    yield _message("several-refused", ("ok@{n}.sink.example", "nobody-there@here.example"), "smtp")


def _addresses():
    addresses = {
        "upper": "OK.Upper@{n}.SINK.example",
        "quoted": '"ok quoted"@{n}.sink.example',
        "quoted-dot": '"ok..dots"@{n}.sink.example',
        "quoted-plain": '"ok"@{n}.sink.example',
        "quoted-quote": r'"ok\"quote\\"@{n}.sink.example',
        "quoted-at": '"ok@at"@{n}.sink.example',
        "extension": "alice+folder@here.example",
        "extension-remote": "ok+ext@{n}.sink.example",
        "percent": "ok%{n}.sink.example@here.example",
        "bang": "{n}.sink.example!ok@here.example",
        "long": f"ok.{'x' * 61}@{{n}}.sink.example",
        "longer": f"ok.{'x' * 300}@{{n}}.sink.example",
        "chars": "ok!#$&'*/=?^_`{|}~@{n}.sink.example",
        "dash": "-ok@{n}.sink.example",
        "case": "Alice@HERE.example",
        "bare": "alice",
        "dotted": "ok@{n}.sink.example.",
        "subdomain": "alice@mail.here.example",
        "literal-own": "alice@[10.77.0.2]",
        "literal-remote": "ok@[10.77.0.1]",
        "route": "@relay.example:ok@{n}.sink.example",
        "umlaut-local": "ok.ü@{n}.sink.example",
        "postmaster": "postmaster",
    }
    for name, address in addresses.items():
        yield from _both(f"address-{name}", address)
    yield _message("utf8", "ok.ü@{n}.sink.example", "smtp", mail=" SMTPUTF8")
    yield _message("utf8-refused", "ok.ü@{n}.ascii.example", "smtp", mail=" SMTPUTF8")
    yield _message("utf8-header", "ok@{n}.ascii.example", "smtp", mail=" SMTPUTF8", content=PLAIN.replace("x@", "ü@"))
    yield from _both("sender-quoted", OUTCOMES["rcpt5"], sender='"odd sender"@{n}.sender.example')
    yield from _both("sender-upper", OUTCOMES["rcpt5"], sender="SENDER@{n}.Sender.example")
    yield from _both("sender-bare", OUTCOMES["good"], sender="bob")
    yield _message("sender-extension", OUTCOMES["rcpt5"], "smtp", sender="bob+list@here.example")
    yield _message("sender-mail4", OUTCOMES["good"], "smtp", sender="mail4@{n}.sender.example")
    yield _message("sender-mail5", OUTCOMES["good"], "smtp", sender="mail5@{n}.sender.example")


def _contents():
    contents = {
        "no-header": "Only a body.\n",
        "no-from": "Subject: {n}\n\nbody\n",
        "no-date": f"{HEADER}\nbody\n",
        "no-message-id": "From: x@here.example\nSubject: {n}\n\nbody\n",
        "no-to": "From: x@here.example\nSubject: {n}\nMessage-ID: <{n}@mix.example>\n\nbody\n",
        "empty": "",
        "only-header": HEADER.rstrip("\n") + "\n",
        "dots": f"{PLAIN}.\n..\n.x\n",
        "no-newline": f"{PLAIN}the end without a newline",
        "long-line": f"{PLAIN}{'x' * 3000}\n",
        "eight-bit": f"{HEADER}MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
                     f"Content-Transfer-Encoding: 8bit\n{DATE}\nä ö ü\n",
        "resent": f"Resent-From: bob@here.example\nResent-To: x@here.example\n"
                  f"Resent-Message-ID: <r.{{n}}@mix.example>\n{PLAIN}",
        "bcc": f"Bcc: secret@here.example\n{PLAIN}",
        "return-path": f"Return-Path: <old@here.example>\nContent-Length: 5\nStatus: RO\n{PLAIN}",
        "folded": f"X-Long: {'word ' * 40}\n folded\n\tagain\n{PLAIN}",
        "bare-address": 'From: bob\nTo: alice, "x y" <bob>\nSubject: {n}\nMessage-ID: <{n}@mix.example>\n\nbody\n',
        "large": PLAIN + "a line of a large message\n" * 4000,
    }  # fmt: skip
    for name, content in contents.items():
        yield from _both(f"content-{name}", OUTCOMES["good"], content=content)
    yield _message("eight-bit-seven", "ok@{n}.seven.example", "smtp", content=contents["eight-bit"],
                   mail=" BODY=8BITMIME")  # fmt: skip
    yield _message("small-large", "ok@{n}.small.example", "smtp", content=contents["large"])
    yield _message("bounce-large", OUTCOMES["rcpt5"], "smtp", content=contents["large"])
    yield _message("bounce-no-header", OUTCOMES["rcpt5"], "smtp", content=contents["no-header"])
    yield _message("bounce-eight-bit", OUTCOMES["rcpt5"], "smtp", content=contents["eight-bit"])
    yield _message("local-odd", "alice@here.example", "smtp", content=f"{PLAIN}From the start\n>From here\n")
    yield _message("too-large", OUTCOMES["good"], "smtp", mail=" SIZE=99999999")


def _commands():
    header = "To: ok@{n}.sink.example\nCc: rcpt5@{n}.sink.example\nBcc: rcpt4@{n}.sink.example\n"
    extract = f"{header}Subject: {{n}}\nMessage-ID: <{{n}}@mix.example>\n\nbody\n"
    yield _message("t", (), "sendmail", words=("-t", "-i", "-f", SENDER), content=extract)
    yield _message("t-more", "ok.2@{n}.sink.example", "sendmail", words=("-t", "-i", "-f", SENDER), content=extract)
    yield _message("t-nobody", (), "sendmail", words=("-t", "-i", "-f", SENDER))
    yield _message("nobody", (), "sendmail")
    yield _message("own-sender", OUTCOMES["rcpt5"], "sendmail", words=("-i",))
    yield _message("full-name", OUTCOMES["good"], "sendmail", words=("-i", "-F", "A. Lice", "-f", SENDER),
                   content="Subject: {n}\nMessage-ID: <{n}@mix.example>\n\nbody\n")  # fmt: skip
    yield _message("dot-ends", OUTCOMES["good"], "sendmail", words=("-f", SENDER), content=f"{PLAIN}.\nafter\n")
    yield _message(
        "oi", OUTCOMES["good"], "sendmail", words=("-oi", "-oem", "-f", SENDER), content=f"{PLAIN}.\nafter\n"
    )
    yield _message("eight", OUTCOMES["good"], "sendmail", words=("-i", "-B8BITMIME", "-r", SENDER))
    yield _message("bad-option", OUTCOMES["good"], "sendmail", words=("-i", "-E"))
    yield _message("bad-notify", OUTCOMES["good"], "sendmail", words=("-i", "-N", "sometimes"))
    yield _message("bv", (OUTCOMES["good"], OUTCOMES["rcpt5"]), "sendmail", words=("-bv", "-f", SENDER))
    yield _message("v", OUTCOMES["rcpt5"], "sendmail", words=("-v", "-i", "-f", SENDER))


def _later():
    for number in range(3):
        yield _message(f"later{number}", "later@{n}.sink.example", "smtp")
    yield _message("later-notify", "later@{n}.sink.example", "smtp", rcpt=" NOTIFY=SUCCESS,DELAY")
    yield _message("closedport", "ok@closedport.example", "smtp")
    yield _message("hold1", OUTCOMES["rcpt4"], "smtp")
    yield _message("hold2", "later@{n}.sink.example", "smtp")
    yield _message("expire1", OUTCOMES["rcpt4"], "smtp")
    yield _message("expire2", OUTCOMES["refused"], "sendmail")
    yield _message("delete1", OUTCOMES["rcpt4"], "smtp")
    yield _message("requeue1", OUTCOMES["rcpt4"], "smtp")
    # Its destination has failed already.
    yield _message("suspended", "other@refused-smtp.refused.example", "smtp", wave=2)
    # There is a delay_warning_time for these.
    for name, notify in (("", ""), ("-never", "NEVER"), ("-failure", "FAILURE"), ("-delay", "DELAY")):
        rcpt = f" NOTIFY={notify}" if notify else ""
        for fate in ("rcpt4", "later", "refused"):
            recipient = OUTCOMES.get(fate, "later@{n}.sink.example")
            yield _message(f"warn{name}-{fate}", recipient, "smtp", rcpt=rcpt, wave=3)
    yield _message("warn-null", OUTCOMES["rcpt4"], "smtp", sender="", wave=3)
    yield _message("warn-several", ("rcpt4@{n}.sink.example", "rcpt4.2@{n}.sink.example", "rcpt5@{n}.sink.example"),
                   "smtp", wave=3)  # fmt: skip


def messages():
    """The mix."""
    parts = (_outcomes, _notifications, _null_senders, _several, _addresses, _contents, _commands, _later)
    found = [message for part in parts for message in part()]
    assert len({message.name for message in found}) == len(found)
    return found


def zone(mix, prefix):
    """The DNS records that the mix needs: (name, type, values)."""
    found = {
        ("relay.example", "MX"): ["10 mx1.hosts.example."],
        ("client.example", "A"): [f"{prefix}.1"],
        ("mail.here.example", "A"): [f"{prefix}.2"],
        (".".join(reversed(f"{prefix}.1".split("."))) + ".in-addr.arpa", "PTR"): ["client.example."],
    }
    for number in (1, *range(21, 41)):
        found[f"mx{number}.hosts.example", "A"] = [f"{prefix}.{number}"]
    for message in mix:
        # Where an address becomes another one, as with % and !, it is in this domain.
        for address in (*message.recipients, message.sender, f"{message.name}.sink.example"):
            domain = address.rpartition("@")[2].lower().rstrip(".")
            for suffix, records in _RECORDS.items():
                if domain.endswith(f".{suffix}"):
                    for kind, values in records:
                        fixed = isinstance(values, str)
                        found[domain, kind] = values if fixed else [v.format(prefix=prefix) for v in values]
    return [(name, kind, values) for (name, kind), values in found.items()]

"""Notices as Postfix writes them: its own and ours, byte by byte but for the texts, which are in both from one file."""

import calendar
import email.utils
import os
import re

import pytest

from pyfix.conf.config import Config
from pyfix.conf.main_cf import Assignment
from pyfix.report.copies import Addressees
from pyfix.report.notice import Notice, Reporter, Subject
from pyfix.report.template import expand_template, parse_templates
from pyfix.spool.content import read_content
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_file import read_envelope
from pyfix.spool.record import CorruptFile

HOST = "oracle.example"
SENDER = "ada@sender.example"
TEMPLATES = "".join(
    f"{kind}_template = <<END\nSubject: About {kind}\n\n$myhostname says: $delay_warning_time_seconds\n\nEND\n"
    for kind in ("failure", "delay", "success", "verify")
)
LONG = " ".join(f"word{number}" for number in range(40))
SETTINGS = {
    "transport_maps": "inline:{{fail.example = error:5.1.1 no such user}, "
    f"{{lost.example = error:5.4.0 {LONG}}}, "
    "{ok.example = discard:dropped}}",
    "notify_classes": "bounce, 2bounce, delay",
    "delay_warning_time": "1s",
    "bounce_size_limit": "2000",
}
MESSAGE = b"From: ada@sender.example\nTo: bob@fail.example\nSubject: hello\nMessage-Id: <1@x>\n\nbody\n"
FAILED = LogEntry("bob@fail.example", 1, "5.1.1", "no such user", "failed", orcpt="rfc822;bob@fail.example")
LOST = LogEntry("eve@lost.example", 2, "5.4.0", LONG, "failed", orcpt="rfc822;eve@lost.example")
LATE = LogEntry("bob@late.example", 1, "4.3.0", "test deferral", "delayed", orcpt="rfc822;bob@late.example")
OK = LogEntry("bob@ok.example", 1, "2.0.0", "dropped", "delivered", orcpt="rfc822;bob@ok.example")
# name: what is sent, and who is told of what
CASES = {
    "failure": (["-f", SENDER, FAILED.recipient], MESSAGE, SENDER, "failure", "", [FAILED], 2),
    "envelope id, header only": (
        ["-f", SENDER, "-V", "an+id", "-R", "hdrs", FAILED.recipient], MESSAGE, SENDER, "failure", "HDRS", [FAILED], 2
    ),
    "large": (["-f", SENDER, FAILED.recipient], MESSAGE + b"x\n" * 1500, SENDER, "failure", "", [FAILED], 2),
    "two recipients": (
        ["-f", SENDER, FAILED.recipient, "eve@lost.example"], MESSAGE, SENDER, "failure", "",
        [FAILED, LOST], 2,
    ),
    "null sender": (["-f", "", FAILED.recipient], MESSAGE, "", "failure", "", [FAILED], 1),
    "delay": (["-f", SENDER, LATE.recipient], MESSAGE, SENDER, "delay", "", [LATE], 2),
    "success": (["-f", SENDER, "-N", "success", OK.recipient], MESSAGE, SENDER, "success", "", [OK], 1),
    "verbose": (["-f", SENDER, "-v", OK.recipient], MESSAGE, SENDER, "verify", "", [OK], 1),
}  # fmt: skip


def stored(path):
    """Envelope and content of a queue file; None while it is being written or moved."""
    try:
        with path.open("rb") as file:
            envelope = read_envelope(file.fileno())
            return envelope, b"".join(read_content(file.fileno(), envelope.content_offset))
    except (FileNotFoundError, CorruptFile):
        return None


def notices_of(postfix):
    """The notices in the queue, those for the sender first: sender, recipient, content."""
    files = filter(None, [stored(path) for path in postfix.files("deferred")])
    found = [(e.sender, e.recipients[0].address, content) for e, content in files if b"multipart/report" in content]
    return sorted(found, key=lambda notice: notice[0])


def configuration(**settings):
    return Config("/", [Assignment(name, value, "main.cf", 1) for name, value in settings.items()])


def ours(kind, sender, ret, entries, theirs):
    """Our notices of the same message and moment, as far as cleanup does not add to them."""
    conf = configuration(myhostname=HOST, **SETTINGS)
    templates, warnings = parse_templates(TEMPLATES)
    assert warnings == []
    template, warnings = expand_template(templates[kind], conf)
    assert warnings == []
    classes = frozenset(SETTINGS["notify_classes"].split(", "))
    addressees = Addressees(f"double-bounce@{HOST}", classes, "postmaster", "postmaster", "postmaster")
    copies, _ = addressees.copies(kind, sender, ret)
    assert len(copies) == len(theirs)
    for copy, (_, _, content) in zip(copies, theirs, strict=True):
        queue_id = re.search(rb"\nX-Postfix-Queue-ID: (.*)\n", content)[1].decode()
        now, arrival = (
            calendar.timegm(email.utils.parsedate(re.search(rb"\n%s: (.*)\n" % name, content)[1].decode()))
            for name in (b"Date", b"Arrival-Date")
        )
        size = 5000 if b"\nContent-Description: Undelivered Message Headers\n" in content else 100
        envid = "an+id" if b"\nOriginal-Envelope-Id: " in content else ""
        original = content[content.index(b"\n", content.rindex(b"\nReturn-Path: ") + 1) + 1 : content.rindex(b"\n--")]
        reporter = Reporter(HOST, "Postfix", 2000, conf.seconds("maximal_queue_lifetime"))
        subject = Subject(queue_id, sender, arrival * 1_000_000, envid, size=size)
        made = Notice(reporter, kind, template, copy, subject, lambda: iter(entries), (now, 0, "UTC"))
        text = b"".join(made.content([original + b"\nbody\n"] if not made.with_body else [original]))
        yield copy.sender, f"{copy.recipient}@{HOST}" if "@" not in copy.recipient else copy.recipient, text


def as_we_do(content):
    """What Postfix's cleanup makes of a notice, without what cleanup adds."""
    content = content[content.index(b"\nDate: ") + 1 :]
    content = re.sub(rb"\nMessage-Id: <[^>]*@oracle.example>\n", b"\n", content, count=1)
    return content.replace(b"MAILER-DAEMON@oracle.example", b"MAILER-DAEMON").replace(
        b"\nTo: postmaster@oracle.example\n", b"\nTo: postmaster\n"
    )


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix is started by root")
def test_notices(postfix):
    main = postfix.conf / "main.cf"
    template_file = postfix.conf / "templates"
    template_file.write_text(TEMPLATES)
    settings = SETTINGS | {"bounce_template_file": str(template_file)}
    main.write_text(main.read_text() + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    os.utime(main, (1_000_000_000, 1_000_000_000))
    with postfix.started():
        for name, (arguments, message, sender, kind, ret, entries, count) in CASES.items():
            postfix.run("sendmail", *arguments, data=message)
            postfix.wait_for(lambda count=count: len(notices_of(postfix)) == count)
            theirs = notices_of(postfix)
            expected = [(who, to, as_we_do(content)) for who, to, content in theirs]
            for made, notice in zip(ours(kind, sender, ret, entries, theirs), expected, strict=True):
                assert made[:2] == notice[:2], name
                assert made[2].decode().split("\n") == notice[2].decode().split("\n"), name
            postfix.wait_for(lambda: not postfix.files("active", "incoming", "maildrop"))
            postfix.run("postsuper", "-d", "ALL")

import os
import time

import pytest

from pyfix.commands import _trace
from pyfix.commands._trace import Place, screen, trace
from pyfix.conf.config import Config
from pyfix.conf.main_cf import parse
from pyfix.service.chronicle import Chronicle
from pyfix.service.story import FileLog
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.queue_file import QueueFileWriter

ID, NOTICE = "4dVBkT0Qz8z1", "4dVBkT2XY2z7"
# 22 November 2026, 16:00 UTC
NOW = 1795363200
USEC = 1_000_000
HEAD = "Nov 22 15:57:04 mx pyfix/"
LOG = f"""\
{HEAD}smtpd[10]: {ID}: client=mx.e[192.0.2.7]
{HEAD}cleanup[11]: {ID}: message-id=<a@b>
{HEAD}qmgr[12]: {ID}: from=<s@e>, size=4300, nrcpt=2 (queue active)
{HEAD}smtp[13]: {ID}: to=<x@y>, relay=none, delay=1, delays=0.5/0.1/0.4/0, dsn=5.4.4, status=bounced (no host)
{HEAD}bounce[14]: {ID}: sender non-delivery notification: {NOTICE}
{HEAD}qmgr[12]: {NOTICE}: from=<>, size=5, nrcpt=1 (queue active)
{HEAD}local[15]: {NOTICE}: to=<s@e>, relay=local, delay=1, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered)
{HEAD}qmgr[12]: {NOTICE}: removed
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def deferrals(count, recipients=1):
    return "".join(
        f"Nov 22 {n // 3600 % 16:02d}:{n // 60 % 60:02d}:{n % 60:02d} mx "
        f"pyfix/smtp[1]: {ID}: to=<r{n % recipients}@z>, "
        f"relay=mx.z[::1]:25, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (reason {n})\n"
        for n in range(count)
    )


def log(text=LOG):
    return FileLog(lambda: iter(text.removesuffix("\n").split("\n")), NOW)


def shown(text=LOG, place=None, rows=23, queue_id=ID):
    message = Chronicle(queue_id, whole=not rows)
    message.tell(log(text).about({queue_id}))
    return [line for line, _ in screen(message, place, {}, NOW * USEC, rows)]


def test_the_story_of_a_message_and_of_its_notice(capsys):
    assert trace(ID, log(), None, whole=False)
    assert capsys.readouterr().out.split("\n") == [
        f"{ID}  from <s@e>, 4,300 bytes, 2 recipients",
        "arrived  Nov 22 15:57:04 from mx.e[192.0.2.7]",
        "id       <a@b>",
        "now      in the queue, says the log; only root and the queue's owner may look where",
        f"related  sender non-delivery notification {NOTICE}  from <> to s@e: sent",
        "",
        "to       x@y  bounced 5.4.4  1s = 0.5/0.1/0.4/0",
        "",
        "Nov 22 15:57:04           smtpd: received from mx.e[192.0.2.7]",
        "Nov 22 15:57:04      +0s  qmgr: active, 2 recipients",
        "Nov 22 15:57:04      +0s  x@y: bounced: no host",
        f"Nov 22 15:57:04      +0s  sender non-delivery notification: {NOTICE}",
        "",
    ]


def test_a_notice_tells_of_the_message_that_it_is_about(capsys):
    assert trace(NOTICE, log(), None, whole=False)
    related = f"related  sender non-delivery notification of {ID}  from <s@e> to x@y: bounced"
    assert related in capsys.readouterr().out.split("\n")


def test_what_the_log_does_not_know_has_no_trace(capsys):
    for subject in ("4dVBkT0Qz8z9", "nobody@example.com"):
        assert not trace(subject, log(), None, whole=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("place", "now"),
    [
        (Place("deferred", (NOW + 312) * USEC), "deferred, next attempt Nov 22 16:05:12, in 5m12s"),
        (Place("deferred", (NOW - 4) * USEC), "deferred, next attempt with the next queue run (due Nov 22 15:59:56)"),
        (Place("hold"), f"on hold until postsuper -H {ID}"),
        (Place("active"), "active: it is being delivered, or its turn comes"),
        (Place("incoming"), "incoming: the queue manager takes it next"),
        (Place("maildrop"), "maildrop: pickup takes it next"),
        (Place("corrupt"), "corrupt: its file was put aside, and is not delivered"),
        (Place(""), "in no queue, and the log does not tell when it was removed"),
    ],
)
def test_where_it_is_now(place, now):
    assert f"now      {now}" in shown(place=place)


@pytest.mark.parametrize("place", [None, Place("")])
def test_a_removed_message_tells_when(place):
    line = shown(place=place, queue_id=NOTICE)[2]
    assert line.startswith("now      removed Nov 22 15:57:04, after 0s")


@pytest.mark.parametrize("attempts", [0, 5, 14, 15, 16, 200, 1000])
@pytest.mark.parametrize("recipients", [1, 3, 50])
@pytest.mark.parametrize("rows", [23, 40])
def test_a_story_fits_a_screen_whatever_happened(attempts, recipients, rows):
    lines = shown(LOG + deferrals(attempts, recipients), rows=rows)
    assert len(lines) <= rows
    assert f"{HEAD[:15]}           smtpd: received from mx.e[192.0.2.7]" in lines
    if attempts:
        assert lines[-1].endswith(f": deferred: reason {attempts - 1}")
    whole = shown(LOG + deferrals(attempts, recipients), rows=0)
    assert len([line for line in whole if ": deferred: reason" in line]) == attempts
    assert not [line for line in whole if "more: " in line]


def test_what_is_left_out_is_told():
    lines = shown(deferrals(200, 50))
    (hidden,) = [line for line in lines if "more: pyfix trace --all" in line]
    count = int(hidden.split()[1])
    assert count + len([line for line in lines if ": deferred: reason" in line]) == 200
    (others,) = [line for line in lines if line.startswith("to       and others: ")]
    listed = [line for line in lines if line.startswith("to       r")]
    assert others == f"to       and others: {50 - len(listed)} deferred"
    assert listed[0].startswith("to       r49@z  deferred 4.4.1  4 attempts  1s = 1/0/0/0  mx.z[::1]:25")


def test_the_queue_is_looked_at_where_this_process_may(spool, capsys):
    conf = Config("/etc/pyfix", parse(f"queue_directory = {spool.root}\n".encode(), "main.cf"))
    writer = QueueFileWriter(spool.create(ID, "deferred"))
    writer.begin(NewMessage("s@e", 1, 1, (NewRecipient("x@y"),)))
    writer.finish()
    writer.commit()
    spool.set_retry_time("deferred", ID, NOW * 2)
    assert trace(ID, log(), conf, whole=False)
    assert "now      deferred, next attempt " in capsys.readouterr().out
    # Also a message that was never logged is told where it is.
    assert trace(ID, log(""), conf, whole=False)
    assert "now      deferred, next attempt " in capsys.readouterr().out
    spool.remove("deferred", ID)
    os.mkdir(f"{spool.root}/corrupt/{ID}")
    assert _trace._find_place(conf, ID) == Place("corrupt")

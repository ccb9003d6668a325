import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pyfix.commands import _top
from pyfix.commands._top import Service, View, Waiting, picture
from pyfix.service.gauges import KINDS
from pyfix.spool import log
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.spool.queue_id import QueueIds
from pyfix.system.clock import syslog_time
from pyfix.system.journal_reader import FileTail

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000
NOW = 1_795_363_200 * SECOND
EMPTY = View(NOW, "mail.example.com", {}, False, {}, None, [], False, [])


def shown(view, width=100):
    output = io.StringIO()
    Console(file=output, width=width, highlight=False).print(picture(view, width))
    return [line.rstrip(" ") for line in output.getvalue().split("\n")]


def fill(spool, recipients, queue="deferred", now=NOW):
    """A message for each list of recipients; their IDs."""
    ids = QueueIds()
    made = []
    for number, addresses in enumerate(recipients):
        made.append(ids.new(now - 3600 * SECOND + number))
        writer = QueueFileWriter(spool.create(made[-1], queue))
        writer.begin(NewMessage("s@e", now - 60 * SECOND, 1, tuple(map(NewRecipient, addresses))))
        writer.finish()
        writer.commit()
    return made


def test_a_picture_has_everything():
    view = EMPTY._replace(
        rates=dict(zip(KINDS, (1200, 5.4, 0, 1), strict=True)),
        queues={"active": (12, False), "deferred": (100_000, True)},
        oldest_age=90_061 * SECOND,
        destinations=[Waiting("example.com", 70_000, 3, "connect: \033[31m" + "x" * 200)],
        destinations_estimated=True,
        services=[Service("pyfix-qmgr", 1, 20 << 20, 12.4, 3.14), Service("pyfix-smtp", 2, 30 << 20, None, 0)],
    )
    lines = shown(view)
    assert lines[0].startswith("pyfix on mail.example.com, Nov 22 ")
    assert lines[1:4] == [
        "per minute  received 1,200  delivered 5  deferred 0  bounced 1",
        "messages    active 12  deferred ~100,000",
        "oldest      1d01h",
    ]
    assert lines[5].split() == ["recipients", "for", "(~)", "deferred", "active", "reason"]
    assert lines[6].startswith("example.com ")
    assert "70,000       3  connect: ?[31mxxx" in lines[6]
    assert [line.split() for line in lines[8:12]] == [
        ["service", "processes", "memory", "cpu", "cpu", "time"],
        ["pyfix-qmgr", "1", "20.0", "MiB", "12", "%", "3.1", "s"],
        ["pyfix-smtp", "2", "30.0", "MiB", "-", "0.0", "s"],
        ["together", "3", "50.0", "MiB", "3.1", "s"],
    ]
    assert max(map(len, lines)) <= 100


def test_what_cannot_be_seen_is_told():
    assert shown(EMPTY)[1:3] == [
        "per minute  the log cannot be read",
        "messages    only root and the queue's owner may look at the queue",
    ]
    estimated = EMPTY._replace(rates=dict.fromkeys(KINDS, 7), rates_estimated=True)
    assert shown(estimated)[1] == "per minute  received ~7  delivered ~7  deferred ~7  bounced ~7"


def test_the_queue_tells_how_much_how_old_for_whom_and_why(spool):
    _, message, _ = fill(spool, [["a@x.example"], ["b@y.example", "c@X.example", "d@x.example"], ["e@x.example"]])
    fill(spool, [["f@y.example"]], "active")
    for address, reason in (("b@y.example", "no route"), ("c@X.example", "timed out")):
        log.addition(spool, "defer", message, [LogEntry(address, 0, "4.4.1", reason, "delayed")]).commit()
    view = _top._Queue(spool).look(EMPTY)
    assert view.queues == {
        "maildrop": (0, False), "incoming": (0, False), "active": (1, False), "deferred": (3, False),
        "hold": (0, False), "corrupt": (0, False),
    }  # fmt: skip
    assert view.oldest_age == 3600 * SECOND
    assert not view.destinations_estimated
    assert [row[:3] for row in view.destinations] == [("x.example", 4, 0), ("y.example", 1, 1)]
    assert view.destinations[1].reason == "no route"


def test_a_second_look_reads_only_what_is_new(spool, monkeypatch):
    fill(spool, [["a@x.example"]] * 20)
    queue = _top._Queue(spool)
    queue.look(EMPTY)
    read = []
    original = _top.census.count
    monkeypatch.setattr(_top.census, "count", lambda path, directory: read.append(path) or original(path, directory))
    assert queue.look(EMPTY).queues["deferred"] == (20, False)
    assert read == []
    fill(spool, [["a@x.example"]], now=NOW + SECOND)
    assert queue.look(EMPTY).destinations[0].deferred == 21
    assert len(read) == 1


def test_a_queue_of_somebody_else_is_left_alone(spool, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(_top.Tallies, "look", refuse)
    assert _top._Queue(spool).look(EMPTY) == EMPTY


def test_a_log_file_tells_the_rates(tmp_path):
    path = tmp_path / "log"
    start = NOW // SECOND
    ids = QueueIds()

    def write(when, message):
        with path.open("a") as file:
            file.write(f"{syslog_time(when)} mx pyfix/x[1]: {ids.new(NOW)}: {message}\n")

    delivered = "to=<a@b>, relay=x, delay=0, status=sent (ok)"
    write(start - 100, delivered)
    write(start - 30, delivered)
    write(start - 1, "client=x[192.0.2.1]")
    tail = FileTail(str(path))
    traffic = _top._Traffic(tail, NOW)
    assert traffic.look(NOW) == ({"received": 1, "delivered": 1, "deferred": 0, "bounced": 0}, False)
    write(start + 1, delivered)
    assert traffic.look(NOW + 2 * SECOND)[0]["delivered"] == 2
    tail.close()


def arguments(*more):
    source = "import sys; sys.argv[0] = 'pyfix'; from pyfix.commands.pyfix import main; main()"
    return [sys.executable, "-c", source, "top", *more]


def environment(spool, tmp_path):
    (tmp_path / "main.cf").write_text(f"queue_directory = {spool.root}\nmyhostname = mail.example.com\n")
    (tmp_path / "log").write_text("")
    return {
        "PATH": os.environ["PATH"], "MAIL_CONFIG": str(tmp_path), "PYTHONPATH": str(ROOT),
        "PYFIX_LOG": f"{tmp_path}/log", "PYFIX_RUNTIME": str(tmp_path), "TERM": "xterm",
        "COLUMNS": "100", "LINES": "40",
    }  # fmt: skip


@pytest.mark.system
def test_into_a_pipe_it_is_one_picture_without_colours(spool, tmp_path):
    fill(spool, [["a@x.example"]], now=time.time_ns() // 1000)
    done = subprocess.run(
        arguments(),
        env=environment(spool, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pyfix on mail.example.com, ")
    assert "deferred 1 " in done.stdout
    assert "\033" not in done.stdout


@pytest.fixture
def interruptible():
    """Children take notice of SIGINT, also where the tests run in the background and were told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.system
@pytest.mark.parametrize("way_out", ["q", "ctrl-c", "end of input"])
@pytest.mark.usefixtures("interruptible")
def test_on_a_terminal_it_goes_on_until_it_is_ended(spool, tmp_path, way_out):
    ours, theirs = pty.openpty()
    shown = b""

    def read_until(text):
        nonlocal shown
        deadline = time.monotonic() + 30
        while text not in shown:
            assert select.select([ours], [], [], max(deadline - time.monotonic(), 0))[0], shown
            shown += os.read(ours, 65536)

    with subprocess.Popen(
        arguments(),
        env=environment(spool, tmp_path),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        read_until(b"deferred 0")
        fill(spool, [["a@x.example"]])
        read_until(b"deferred 1")
        if way_out == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, b"q" if way_out == "q" else b"\x04")
        read_until(b"\033[?1049l")  # the screen that was there before
        assert process.wait(30) == 0
    os.close(ours)

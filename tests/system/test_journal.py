"""The log file: one line an event, whatever is in it. The journal: one entry, whatever journald does."""

import os
import re
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from pyfix.system import journal
from pyfix.system.journal import Event, Journal


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("PYFIX_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_a_line_is_as_syslog_writes_it(log):
    Journal("pyfix/smtpd").info("connect from localhost[127.0.0.1]")
    host = os.uname().nodename.partition(".")[0]
    pattern = rf"[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {host} pyfix/smtpd\[{os.getpid()}\]: connect from localhost.*\n"
    assert re.fullmatch(pattern, log.read_text())


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x00b", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\x7fb"])
def test_control_characters_forge_no_line(log, text):
    Journal("pyfix/x").write(Event(text))
    line = log.read_bytes()
    assert line.count(b"\n") == 1
    assert re.search(rb": a\?\??(\[31m)?b\n\Z", line)


def test_other_characters_stay(log):
    Journal("pyfix/x").info("from=<jürgen@пример.example>")
    assert log.read_text().endswith("from=<jürgen@пример.example>\n")


def test_an_unencodable_character_does_not_stop_the_log(log):
    Journal("pyfix/x").info("a\udcffb")
    assert log.read_text().endswith("a\\udcffb\n")


def test_priorities_have_postfix_words(log):
    writer = Journal("pyfix/x")
    writer.warning("w")
    writer.error("e")
    writer.fatal("f")
    writer.bug(ValueError("v"))
    text = log.read_text()
    for line in (": warning: w\n", ": error: e\n", ": fatal: f\n", ": panic: ValueError: v\n"):
        assert line in text


@pytest.fixture
def journald(tmp_path, monkeypatch):
    """A socket in journald's place."""
    monkeypatch.delenv("PYFIX_LOG", raising=False)
    monkeypatch.setattr(journal, "JOURNAL_SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(journal.JOURNAL_SOCKET)
        sock.setblocking(False)
        yield sock


@pytest.fixture
def writer(journald):
    """The log of a process; it is closed at the end, as the process's end does it."""
    writer = Journal("pyfix/qmgr")
    yield writer
    writer._write._send.__self__._socket.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(journal, "PATIENCE", 1)


def received(sock):
    """The entries in the socket, each as a dictionary."""
    found = []
    with suppress(BlockingIOError):
        while True:
            lines = sock.recv(1 << 20).decode().removesuffix("\n").split("\n")
            found.append(dict(line.split("=", 1) for line in lines))
    return found


def fill(writer):
    """Writes lines until the journal takes no more, and one is lost; the lines that it took."""
    start = time.monotonic()
    count = 0
    while time.monotonic() - start < journal.PATIENCE:
        writer.info(f"line {count}")
        count += 1
    return count - 1


def test_an_entry_has_the_fields_of_its_event(journald, writer):
    fields = {"PYFIX_QUEUE_ID": "4dVBkT0Qz8z1", "PYFIX_SENDER": ""}
    writer.write(Event("a line", fields, journal.WARNING, "0123456789abcdef0123456789abcdef"))
    assert received(journald) == [
        {
            "MESSAGE": "a line",
            "PRIORITY": "4",
            "PYFIX_QUEUE_ID": "4dVBkT0Qz8z1",
            "PYFIX_SENDER": "",
            "MESSAGE_ID": "0123456789abcdef0123456789abcdef",
            "SYSLOG_IDENTIFIER": "pyfix/qmgr",
            "SYSLOG_FACILITY": "2",
        }
    ]


def test_a_line_about_a_message_has_its_id(journald, writer):
    writer.warning("odd", "4dVBkT0Qz8z1")
    [entry] = received(journald)
    assert (entry["MESSAGE"], entry["PYFIX_QUEUE_ID"]) == ("warning: 4dVBkT0Qz8z1: odd", "4dVBkT0Qz8z1")


@pytest.mark.parametrize("text", ["a\nPYFIX_STATUS=sent", "a\x00b", "a\u2028b", "a\udcffb", "a" * 1_000_000])
def test_no_text_adds_or_breaks_a_field(journald, writer, text):
    writer.write(Event(text, {"PYFIX_SENDER": text}))
    [entry] = received(journald)
    assert set(entry) == {"MESSAGE", "PRIORITY", "PYFIX_SENDER", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY"}
    assert entry["MESSAGE"][0] == entry["PYFIX_SENDER"][0] == "a"


def test_a_journal_that_takes_nothing_holds_nobody_up_for_long(journald, impatient, writer):
    taken = fill(writer)
    start = time.monotonic()
    for _ in range(1000):
        writer.info("lost")
    assert time.monotonic() - start < journal.PATIENCE
    assert [entry["MESSAGE"] for entry in received(journald)] == [f"line {n}" for n in range(taken)]

    writer.info("after that")
    told, after = received(journald)
    assert told["MESSAGE"] == "warning: 1001 log lines were lost: the log did not take them"
    assert (told["MESSAGE_ID"], told["PYFIX_LOST_LINES"], told["PRIORITY"]) == (journal.LOST_LINES, "1001", "4")
    assert after["MESSAGE"] == "after that"
    writer.info("and so on")
    assert [entry["MESSAGE"] for entry in received(journald)] == ["and so on"]


def test_a_line_waits_for_a_journal_that_is_busy(journald, writer):
    taken = []

    def read_slowly():
        journald.settimeout(30)
        while len(taken) < 2000:
            taken.append(journald.recv(4096))

    with ThreadPoolExecutor(1) as reader:
        done = reader.submit(read_slowly)
        for _ in range(2000):
            writer.info("x")
        done.result()
    assert len(taken) == 2000


def test_a_new_socket_of_the_journal_is_found(journald, writer):
    writer.info("before")
    journald.close()
    os.unlink(journal.JOURNAL_SOCKET)
    writer.info("lost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another:
        another.bind(journal.JOURNAL_SOCKET)
        another.setblocking(False)
        writer.info("after")
        told, after = received(another)
    assert (told["PYFIX_LOST_LINES"], after["MESSAGE"]) == ("1", "after")


def test_the_last_line_of_a_traceback_is_explained(journald, writer):
    writer.bug(ValueError("v"))
    entries = received(journald)
    assert [entry.get("MESSAGE_ID") for entry in entries] == [None] * (len(entries) - 1) + [journal.BUG]
    assert entries[-1]["MESSAGE"] == "panic: ValueError: v"


def test_a_log_file_that_takes_nothing_ends_nobody(log):
    """What was lost is told when lines are taken again."""
    full = Journal("pyfix/x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        for _ in range(3):
            full.info("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    full.info("there again")
    lines = [line.partition("]: ")[2] for line in log.read_text().splitlines()]
    assert lines == ["warning: 3 log lines were lost: the log did not take them", "there again"]

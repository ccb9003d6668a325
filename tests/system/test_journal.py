"""The log file: one line an event, whatever is in it."""

import os
import re

import pytest

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
    journal = Journal("pyfix/x")
    journal.warning("w")
    journal.error("e")
    journal.fatal("f")
    journal.bug(ValueError("v"))
    text = log.read_text()
    for line in (": warning: w\n", ": error: e\n", ": fatal: f\n", ": panic: ValueError: v\n"):
        assert line in text

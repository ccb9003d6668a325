"""``pyfix trace``: a message's story, from the journal or from a log file."""

import os
import sys
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from pyfix.service.story import FileLog, JournalLog, Line, Log, elapsed, tell
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.clock import now_usec
from pyfix.system.journal import printable
from pyfix.system.journal_reader import has_journal, may_read_journal, read_journal, read_lines

_DEFAULT_LOGS = ("/var/log/mail.log", "/var/log/maillog")
_MESSAGES = 10
_HINT = "reading the mail system's journal takes root or a member of the group systemd-journal or adm"
_COLOURS = (("status=sent", "32"), ("status=deferred", "33"), ("status=bounced", "31"), ("reject:", "31"))


class Source(NamedTuple):
    """Where to read, and how it is named to the user."""

    log: Log
    name: str
    # why the story may be missing
    hint: str = ""


def is_subject(text: str) -> bool:
    """Whether the text is what can be traced: a queue ID or an address."""
    return is_queue_id(text) or "@" in text


def find_source(log_files: Iterable[str]) -> Source | None:
    """The log file that was asked for, or else the journal, or else the log file where syslog keeps it."""
    path = next(filter(None, log_files), "")
    if not path and has_journal():
        return Source(JournalLog(read_journal), "the journal", "" if may_read_journal() else _HINT)
    path = path or next(filter(os.path.exists, _DEFAULT_LOGS), "")
    return Source(FileLog(partial(read_lines, path), now_usec() / 1_000_000), path) if path else None


def trace(subject: str, log: Log) -> bool:
    """Prints the story of a message, or the stories of the newest messages from or to an address; whether any is."""
    if is_queue_id(subject):
        return bool(_print(tell(subject, log)))
    told: set[str] = set()
    for line in log.recent(subject, _MESSAGES):
        if not line.queue_id or line.queue_id not in told:
            if told:
                print()
            told |= _print(tell(line.queue_id, log) if line.queue_id else (line,))
    return bool(told)


def _print(lines: Iterable[Line]) -> set[str]:
    """Prints lines with the time between them; the messages that they are about."""
    told: set[str] = set()
    before = 0
    for line in lines:
        since = f"+{elapsed(before, line.time)}" if before else ""
        text = printable(f"{line.stamp} {since:>8}  {line.program:<13}  {line.message}")
        print(_coloured(text, line.message))
        before = line.time
        told.add(line.queue_id)
    return told


def _coloured(text: str, message: str) -> str:
    if not sys.stdout.isatty():
        return text
    colour = next((c for mark, c in _COLOURS if mark in message), "33" if message.startswith("warning:") else "")
    return f"\033[{colour}m{text}\033[0m" if colour else text

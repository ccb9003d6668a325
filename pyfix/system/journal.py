"""Where events go: journald with fields, or a log file in the traditional form, or standard error.

``$PYFIX_LOG`` names a file for systems without a journal; many processes append to it, each line with one write. Else
the journal is used where its socket is there, and standard error where it is not.

Source: systemd.journal-fields(7).
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pyfix.system.clock import now_usec, syslog_time

JOURNAL_SOCKET = "/run/systemd/journal/socket"

_NO_FIELDS: Mapping[str, str] = MappingProxyType({})

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7
"""syslog priorities."""


class Event(NamedTuple):
    """Something to log: Postfix's line, and the same facts as journal fields."""

    message: str
    fields: Mapping[str, str] = _NO_FIELDS
    priority: int = INFO
    message_id: str = ""


class Journal:
    """The log of one process. ``identifier`` is the SYSLOG_IDENTIFIER, for example ``pyfix/smtpd``."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier
        log_file = os.environ.get("PYFIX_LOG", "")
        if log_file:
            self._write = _file_writer(os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
        elif os.path.exists(JOURNAL_SOCKET):
            self._write = _journal_writer()
        else:
            self._write = _file_writer(sys.stderr.fileno())

    def write(self, event: Event) -> None:
        """Logs an event. Control characters in it, which a peer may have sent, become ``?``."""
        self._write(self.identifier, event)

    def info(self, message: str) -> None:
        """Logs a line."""
        self.write(Event(message))

    def warning(self, message: str) -> None:
        """Logs trouble that was dealt with."""
        self.write(Event(f"warning: {message}", priority=WARNING))

    def error(self, message: str) -> None:
        """Logs trouble that somebody should look at."""
        self.write(Event(f"error: {message}", priority=ERROR))

    def fatal(self, message: str) -> None:
        """Logs why this process ends. The caller ends it."""
        self.write(Event(f"fatal: {message}", priority=ERROR))

    def bug(self, error: BaseException) -> None:
        """Logs the traceback of an exception that nobody foresaw."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            self.write(Event(f"panic: {line}", priority=ERROR))


_Writer = Callable[[str, Event], None]
_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), "?")


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else text.translate(_UNPRINTABLE)


def _file_writer(fd: int) -> _Writer:
    host = os.uname().nodename.partition(".")[0]
    stamp_second, stamp = 0, ""

    def write(identifier: str, event: Event) -> None:
        nonlocal stamp_second, stamp
        second = now_usec() // 1_000_000
        if second != stamp_second:
            stamp_second, stamp = second, syslog_time(second)
        line = f"{stamp} {host} {identifier}[{os.getpid()}]: {_printable(event.message)}\n"
        os.write(fd, line.encode("utf-8", "backslashreplace"))

    return write


def _journal_writer() -> _Writer:
    from systemd.journal import sendv  # noqa: PLC0415 -- costs 30 ms, which only users of the journal pay

    def write(identifier: str, event: Event) -> None:
        fields = [f"{name}={_printable(value)}" for name, value in event.fields.items()]
        if event.message_id:
            fields.append(f"MESSAGE_ID={event.message_id}")
        sendv(
            f"MESSAGE={_printable(event.message)}",
            f"PRIORITY={event.priority}",
            f"SYSLOG_IDENTIFIER={identifier}",
            "SYSLOG_FACILITY=2",
            *fields,
        )

    return write

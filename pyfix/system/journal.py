"""Where events go: journald with fields, or a log file in the traditional form, or standard error.

``$PYFIX_LOG`` names a file for systems without a journal; many processes append to it, each line with one write. Else
the journal is used where its socket is there, and standard error where it is not.

Mail goes on without a log. A journal that takes nothing holds a process up for ``PATIENCE`` seconds; lines after that
are dropped until it takes one again, which is one that tells how many were lost.

Source: systemd.journal-fields(7), https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
"""

import errno
import os
import socket
import struct
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

PATIENCE = 3
"""For how long a line may wait for a journal that takes none, in seconds."""

BUG = "72a54f0e9d3b4c18b6e0c95d1f4a8e37"
LOST_LINES = "d4e81b6f5a2c49709c3f7b1e08a6d25c"
"""MESSAGE_IDs of the events that belong to the log itself; the others are in service/events.py."""


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
            file = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._write = _LossyWriter(_File(file).send)
        elif os.path.exists(JOURNAL_SOCKET):
            self._write = _LossyWriter(_Journald().send)
        else:
            self._write = _LossyWriter(_File(sys.stderr.fileno()).send)

    def write(self, event: Event) -> None:
        """Logs an event. Control characters in it, which a peer may have sent, become ``?``."""
        self._write(self.identifier, event)

    def info(self, message: str, queue_id: str = "") -> None:
        """Logs a line. ``queue_id`` is that of the message that it is about; the line begins with it."""
        self.write(_line("", message, queue_id, INFO))

    def warning(self, message: str, queue_id: str = "") -> None:
        """Logs trouble that was dealt with."""
        self.write(_line("warning: ", message, queue_id, WARNING))

    def error(self, message: str, queue_id: str = "") -> None:
        """Logs trouble that somebody should look at."""
        self.write(_line("error: ", message, queue_id, ERROR))

    def fatal(self, message: str) -> None:
        """Logs why this process ends. The caller ends it."""
        self.write(_line("fatal: ", message, "", ERROR))

    def bug(self, error: BaseException) -> None:
        """Logs the traceback of an exception that nobody foresaw."""
        *lines, last = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
        for line in lines:
            self.write(Event(f"panic: {line}", priority=ERROR))
        self.write(Event(f"panic: {last}", priority=ERROR, message_id=BUG))


def printable(text: str) -> str:
    """The text with ``?`` for control characters, which would forge lines or talk to a terminal."""
    return text if text.isascii() and text.isprintable() else text.translate(_UNPRINTABLE)


def _line(label: str, message: str, queue_id: str, priority: int) -> Event:
    if queue_id:
        return Event(f"{label}{queue_id}: {message}", {"PYFIX_QUEUE_ID": queue_id}, priority)
    return Event(label + message, priority=priority)


_SHORT = 2000
_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), "?")


class _LossyWriter:
    """Writes by ``send``, and tells how many lines were lost when lines are taken again: a full log stops no mail.

    ``send`` says whether it was done; its last argument is false where it should not be waited for.
    """

    def __init__(self, send: Callable[[str, Event, bool], bool]) -> None:
        self._send = send
        self._lost = 0

    def __call__(self, identifier: str, event: Event) -> None:
        if self._lost and not self._tell_lost(identifier):
            self._lost += 1
            return
        self._lost = 0 if self._send(identifier, event, True) else 1

    def _tell_lost(self, identifier: str) -> bool:
        """Tells how many lines were lost, if lines are taken again."""
        message = f"warning: {self._lost} log lines were lost: the log did not take them"
        event = Event(message, {"PYFIX_LOST_LINES": str(self._lost)}, WARNING, LOST_LINES)
        return self._send(identifier, event, False)


class _File:
    """Writes lines as syslog does."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._host = os.uname().nodename.partition(".")[0]
        self._second, self._stamp = 0, ""

    def send(self, identifier: str, event: Event, _wait: bool) -> bool:
        """Whether the line was written."""
        second = now_usec() // 1_000_000
        if second != self._second:
            self._second, self._stamp = second, syslog_time(second)
        line = f"{self._stamp} {self._host} {identifier}[{os.getpid()}]: {printable(event.message)}\n"
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return False
        return True


class _Journald:
    """Sends entries to journald, each in one datagram.

    systemd.journal.sendv() waits for ever when journald has stopped reading, costs a little more for each line, and
    12 ms of CPU and 1.5 MiB at a process's start.
    """

    def __init__(self) -> None:
        self._socket = _open_socket()

    def send(self, identifier: str, event: Event, wait: bool) -> bool:
        """Whether journald took the entry."""
        flags = 0 if wait else socket.MSG_DONTWAIT
        data = _encode(identifier, event)
        try:
            self._socket.send(data, flags)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                data = _encode(identifier, _shortened(event))
            else:
                # journald's socket is another one now.
                self._socket.close()
                self._socket = _open_socket()
            try:
                self._socket.send(data, flags)
            except OSError:
                return False
        return True


def _open_socket() -> socket.socket:
    """A socket to journald; it is not connected where nobody is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
    sock.connect_ex(JOURNAL_SOCKET)
    return sock


def _encode(identifier: str, event: Event) -> bytes:
    message, fields, priority, message_id = event
    entry = [f"MESSAGE={message}", *map("=".join, fields.items())]
    if not "".join(entry).isprintable():
        entry = [printable(field) for field in entry]
    kind = f"MESSAGE_ID={message_id}\n" if message_id else ""
    entry.append(f"PRIORITY={priority}\n{kind}SYSLOG_IDENTIFIER={identifier}\nSYSLOG_FACILITY=2\n")
    return "\n".join(entry).encode("utf-8", "backslashreplace")


def _shortened(event: Event) -> Event:
    """The event in a size that a datagram certainly takes."""
    fields = {name: value[:_SHORT] for name, value in event.fields.items()}
    return event._replace(message=f"{event.message[:_SHORT]}...", fields=fields)

"""``pyfix trace``: a message's story, from the journal or from a log file."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from pyfix.conf.config import Config
from pyfix.service.chronicle import Attempt, Chronicle, Event, plural
from pyfix.service.story import FileLog, JournalLog, Line, Log, elapsed, tell
from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.account import acting_as
from pyfix.system.clock import now_usec, syslog_time
from pyfix.system.journal import printable
from pyfix.system.journal_reader import has_journal, may_read_journal, read_journal, read_lines

_DEFAULT_LOGS = ("/var/log/mail.log", "/var/log/maillog")
_MESSAGES = 10
_SCREEN = 24
_RELATIVES = 4
_HINT = "reading the mail system's journal takes root or a member of the group systemd-journal or adm"
_COLOURS = {"sent": "32", "deferred": "33", "bounced": "31", "expired": "31"}
_MARKS = (("status=sent", "32"), ("status=deferred", "33"), ("status=bounced", "31"), ("reject:", "31"))
_SECOND = 1_000_000


class Source(NamedTuple):
    """Where to read, and how it is named to the user."""

    log: Log
    name: str
    # why the story may be missing
    hint: str = ""


class Place(NamedTuple):
    """Where a message's file is."""

    # empty: it is in no queue
    queue: str
    # the file's time, microseconds since the epoch: for a deferred message that of its next attempt
    due: int = 0


def is_subject(text: str) -> bool:
    """Whether the text is what can be traced: a queue ID or an address."""
    return is_queue_id(text) or "@" in text


def log_file(log_files: Iterable[str]) -> str:
    """The log file that was asked for, or else none for the journal, or else where syslog keeps it; none if nowhere."""
    path = next(filter(None, log_files), "")
    return path if path or has_journal() else next(filter(os.path.exists, _DEFAULT_LOGS), "")


def find_source(log_files: Iterable[str]) -> Source | None:
    """The log file that was asked for, or else the journal, or else the log file where syslog keeps it."""
    path = log_file(log_files)
    if not path and has_journal():
        return Source(JournalLog(read_journal), "the journal", "" if may_read_journal() else _HINT)
    return Source(FileLog(partial(read_lines, path), now_usec() / 1_000_000), path) if path else None


# -- as lines --


def trace_lines(subject: str, log: Log) -> bool:
    """Prints the lines of a message and of its relatives, or those of the newest messages from or to an address.

    Whether there is any.
    """
    if is_queue_id(subject):
        return bool(_print_lines(tell(subject, log)))
    told: set[str] = set()
    for line in log.recent(subject, _MESSAGES):
        if not line.queue_id or line.queue_id not in told:
            if told:
                print()
            told |= _print_lines(tell(line.queue_id, log) if line.queue_id else (line,))
    return bool(told)


def _print_lines(lines: Iterable[Line]) -> set[str]:
    """Prints lines with the time between them; the messages that they are about."""
    told: set[str] = set()
    before = 0
    for line in lines:
        since = f"+{elapsed(before, line.time)}" if before else ""
        colour = next((c for mark, c in _MARKS if mark in line.message), "")
        _say(f"{line.stamp} {since:>8}  {line.program:<13}  {line.message}", colour)
        before = line.time
        told.add(line.queue_id)
    return told


def _say(text: str, colour: str = "") -> None:
    text = printable(text)
    if sys.stdout.isatty() and colour:
        text = f"\033[{colour}m{text}\033[0m"
    print(text)


# -- on one screen --


def trace(subject: str, log: Log, conf: Config | None, *, whole: bool) -> bool:
    """Prints a message's story, or what became of the newest messages from or to an address; whether there is any.

    ``conf`` tells where the queue is; None: it is not looked at. The story is shortened to a screen unless ``whole``.
    """
    if is_queue_id(subject):
        return _trace_message(subject, log, conf, whole=whole)
    lines = log.recent(subject, _MESSAGES)
    messages = {line.queue_id: Chronicle(line.queue_id) for line in lines if line.queue_id}
    if len(lines) == len(messages) == 1:
        return _trace_message(lines[0].queue_id, log, conf, whole=whole)
    _tell(messages, log)
    for line in lines:
        if line.queue_id:
            message = messages[line.queue_id]
            _say_cut(f"{_moment(message.arrived)}  {line.queue_id}  {_in_short(message)}", _colour_of(message))
        else:
            _say_cut(f"{_moment(line.time)}  {line.message}", "31")
    return bool(lines)


def _trace_message(queue_id: str, log: Log, conf: Config | None, *, whole: bool) -> bool:
    message = Chronicle(queue_id, whole=whole)
    message.tell(log.about({queue_id}))
    place = _find_place(conf, queue_id) if conf else None
    if not message.arrived and not (place and place.queue):
        return False
    relatives = {relative.queue_id: Chronicle(relative.queue_id) for relative in message.relatives[:_RELATIVES]}
    _tell(relatives, log)
    # One line of the screen is the shell's.
    rows = 0 if whole else max(shutil.get_terminal_size((80, _SCREEN)).lines, _SCREEN) - 1
    for text, colour in screen(message, place, relatives, now_usec(), rows):
        _say_cut(text, colour)
    return True


def _tell(messages: dict[str, Chronicle], log: Log) -> None:
    """Tells messages their lines, in one look at the log."""
    for line in log.about(messages) if messages else ():
        if line.queue_id in messages:
            messages[line.queue_id].tell((line,))


def _say_cut(text: str, colour: str = "") -> None:
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = text if len(text) <= width else f"{text[: width - 1]}…"
    _say(text, colour)


def _find_place(conf: Config, queue_id: str) -> Place | None:
    """Where the message is; None where this process may not know."""
    try:
        spool = Spool(conf.text("queue_directory"), conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
    except OSError:
        return None
    try:
        owner = os.fstat(spool.descriptor)
        if os.geteuid() == 0:
            with acting_as(owner.st_uid, owner.st_gid):
                return _look(spool, queue_id)
        return _look(spool, queue_id)
    except OSError:
        return None
    finally:
        spool.close()


def _look(spool: Spool, queue_id: str) -> Place:
    queue = spool.queue_of(queue_id)
    path = spool.find(queue, queue_id) if queue else None
    if queue is None or path is None:
        corrupt = f"{spool.root}/corrupt/{queue_id}"
        return Place("corrupt" if os.path.exists(corrupt) else "")
    status = os.stat(path, dir_fd=spool.descriptor, follow_symlinks=False)
    return Place(queue, status.st_mtime_ns // 1000)


def screen(
    message: Chronicle, place: Place | None, relatives: dict[str, Chronicle], now: int, rows: int
) -> Iterator[tuple[str, str]]:
    """The lines, each with its colour, at most ``rows``; 0: as many as it takes. ``now`` is in microseconds."""
    head = list(_head(message, place, relatives, now))
    yield from head
    room = rows - len(head) - 2 if rows else 0
    recipients = list(_recipients(message, max(room // 3, 2) if rows else 0))
    if recipients:
        yield "", ""
        yield from recipients
    beginning, end = message.story()
    if beginning:
        yield "", ""
        yield from _story(beginning, end, message.length, room - len(recipients) if rows else 0)


def _head(
    message: Chronicle, place: Place | None, relatives: dict[str, Chronicle], now: int
) -> Iterator[tuple[str, str]]:
    facts = [f"from <{message.sender}>"] if message.sender is not None else []
    if message.recipient_count:
        facts += [f"{message.size:,} bytes", plural(message.recipient_count, "recipient")]
    yield f"{message.queue_id}  {', '.join(facts)}".rstrip(" "), "1"
    if message.arrived:
        yield f"arrived  {_moment(message.arrived)}{f' from {message.origin}' if message.origin else ''}", ""
    if message.identifier:
        yield f"id       {message.identifier}", ""
    yield f"now      {_now(message, place, now)}", _colour_of(message)
    for relative in message.relatives[:_RELATIVES]:
        other = relatives.get(relative.queue_id)
        known = f"  {_in_short(other)}" if other and other.arrived else ""
        yield f"related  {relative.relation} {relative.queue_id}{known}", ""
    if len(message.relatives) > _RELATIVES:
        yield f"related  and {len(message.relatives) - _RELATIVES:,} more messages", ""


def _now(message: Chronicle, place: Place | None, now: int) -> str:
    """Where the message is, as far as that is known."""
    if place is None:
        if message.removed:
            return f"removed {_moment(message.removed)}, after {elapsed(message.arrived, message.removed)}"
        return "in the queue, says the log; only root and the queue's owner may look where"
    if place.queue == "deferred":
        if place.due <= now:
            return f"deferred, next attempt with the next queue run (due {_moment(place.due)})"
        return f"deferred, next attempt {_moment(place.due)}, in {elapsed(now, place.due // _SECOND * _SECOND)}"
    known = {
        "active": "active: it is being delivered, or its turn comes",
        "hold": f"on hold until postsuper -H {message.queue_id}",
        "incoming": "incoming: the queue manager takes it next",
        "maildrop": "maildrop: pickup takes it next",
        "corrupt": "corrupt: its file was put aside, and is not delivered",
    }
    if place.queue:
        return known[place.queue]
    if message.removed:
        return f"removed {_moment(message.removed)}, after {elapsed(message.arrived, message.removed)} in the queue"
    return "in no queue, and the log does not tell when it was removed"


def _recipients(message: Chronicle, limit: int) -> Iterator[tuple[str, str]]:
    """A line for each recipient, those who wait or failed first; beyond ``limit`` they are summed (0: never)."""
    known = sorted(message.recipients.values(), key=lambda known: (known[1].status == "sent", -known[1].time))
    shown = known if not limit or len(known) <= limit else known[: limit - 1]
    width = max((len(attempt.recipient) for _, attempt in shown), default=0)
    for count, attempt in shown:
        tries = "" if count == 1 else f"  {plural(count, 'attempt')}"
        delays = f"  {attempt.delay}s = {attempt.delays}" if attempt.delays else ""
        relay = f"  {attempt.relay}" if attempt.relay != "none" else ""
        line = f"to       {attempt.recipient:<{min(width, 40)}}  {attempt.status} {attempt.dsn}{tries}{delays}{relay}"
        yield line, _COLOURS.get(attempt.status, "")
    rest: dict[str, int] = {}
    for _, attempt in known[len(shown) :]:
        rest[attempt.status] = rest.get(attempt.status, 0) + 1
    if rest or message.unlisted:
        summed = [f"{count:,} {status}" for status, count in rest.items()]
        summed += [f"{plural(message.unlisted, 'attempt')} for still others"] if message.unlisted else []
        yield f"to       and others: {', '.join(summed)}", ""


def _story(
    beginning: list[Attempt | Event], end: list[Attempt | Event], length: int, limit: int
) -> Iterator[tuple[str, str]]:
    """What happened, with the time since what is shown before; in ``limit`` lines, the middle is left out."""
    told = [*beginning, *end]
    if limit and length > limit:
        limit = max(limit, 4)
        first = (limit - 1) // 3
        told = told[:first] + told[first + 1 - limit :]
    left_out = length - len(told)
    before = 0
    for number, entry in enumerate(told):
        if left_out and number == (limit - 1) // 3:
            yield f"{'':15}    ... {left_out:,} more: pyfix trace --all ...", ""
        since = f"+{elapsed(before, entry.time)}" if before else ""
        before = entry.time
        yield f"{_moment(entry.time)} {since:>8}  {_what(entry)}", _colour_of_entry(entry)


def _what(entry: Attempt | Event) -> str:
    if isinstance(entry, Event):
        return entry.text
    aliased = f" (for {entry.original})" if entry.original else ""
    return f"{entry.recipient}{aliased}: {entry.status}: {entry.reason}"


def _colour_of_entry(entry: Attempt | Event) -> str:
    if isinstance(entry, Event):
        return "33" if "warning: " in entry.text else ""
    return _COLOURS.get(entry.status, "")


def _in_short(message: Chronicle) -> str:
    """A message in a line: from whom, to whom, and what became of it."""
    sender = f"from <{message.sender}>" if message.sender is not None else ""
    names = [attempt.recipient for _, attempt in message.recipients.values()]
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    recipient = f" to {names[0]}{more}" if names else ""
    counts = message.statuses()
    outcome = ", ".join(f"{n:,} {status}" if len(names) > 1 else status for status, n in counts.items())
    return f"{sender}{recipient}{f': {outcome}' if outcome else ''}"


def _colour_of(message: Chronicle) -> str:
    """That of the worst of its outcomes."""
    counts = message.statuses()
    return next((_COLOURS[status] for status in ("bounced", "expired", "deferred", "sent") if status in counts), "")


def _moment(usec: int) -> str:
    """A time stamp; log files have whole seconds only."""
    seconds, rest = divmod(usec, _SECOND)
    return f"{syslog_time(seconds)}.{rest // 1000:03d}" if rest else syslog_time(seconds)

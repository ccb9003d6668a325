"""postsuper(1): deletes, holds, releases, requeues and expires messages, and puts the queue in order.

Description
    Asks the queue manager to change messages, so that it never meets a message that changed behind its back. Only
    when the queue manager does not run does postsuper change the files itself. ``-p``, ``-s`` and ``-S`` always do;
    while the queue manager runs they leave the active queue alone.

    What was asked for is done in the order of the command line. ``-e`` lets a message expire: in place of the next
    attempt to deliver it is returned to the sender; mail on hold stays there. ``-f`` does the same, and releases it.

    ``-s`` puts files into the subdirectories that hash_queue_names and hash_queue_depth ask for, and renames messages
    with short queue IDs, which contain an inode number, if their file has another. That is so after a queue was
    restored from a backup, and wanted before Postfix gets the queue. ``-S`` does so to long queue IDs too.

Security
    For root and for the owner of the queue. As root it acts with the rights of the queue's owner, so that a queue
    that was tampered with leads it nowhere else.

Diagnostics
    Problems and results are reported on standard error and logged. The exit status is 1 for wrong use and for a
    queue that cannot be reached, else 0, whether messages were found or not, as in Postfix. When files had to be
    renamed nothing is done to messages that were named on the command line: the names may mean others now.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple

from pyfix.conf.error import ConfigError
from pyfix.service.blocking import BlockingClient
from pyfix.service.calling import Unavailable, socket_path
from pyfix.service.interface import ServiceError
from pyfix.service.queue import CONTROL, Change
from pyfix.spool import change, structure
from pyfix.spool.active import in_use
from pyfix.spool.directories import MESSAGE_QUEUES, Spool
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.account import acting_as, may_act_as
from pyfix.system.configuration import load_config
from pyfix.system.journal import JOURNAL_SOCKET, Journal
from pyfix.system.options import Command, printable

COMMAND = Command(
    "postsuper",
    "[-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure fix)] [-S (redundant structure fix)] [-v (verbose)] [queue...]",
    "Changes messages in the queue. A queue_id of - reads queue IDs from standard input, and one of ALL means all\n"
    "messages of the named queues. Without options: -s -p.",
)

_BATCH = 500
# What Postfix takes for a queue ID: a message of that name it would just not find.
_POSSIBLE = re.compile(r"[0-9A-Za-z_]{1,255}")
_LINE_LIMIT = 1000

# What each option does to a message, in io.pyfix.Control's words.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "-d": ("delete",),
    "-e": ("expire",),
    "-f": ("expire", "release"),
    "-h": ("hold",),
    "-H": ("release",),
    "-r": ("requeue",),
}
# What is said of a message, and of all together, in the order of the report.
_WORDS = {
    "requeue": ("requeued", "Requeued"),
    "delete": ("removed", "Deleted"),
    "expire": ("expired", "Force-expired"),
    "hold": ("placed on hold", "Placed on hold"),
    "release": ("released from hold", "Released from hold"),
}
_RENAMED = "QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS"


class _Reporter:
    """Says things on standard error and in the log."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal

    def info(self, message: str, queue_id: str = "") -> None:
        print(f"{COMMAND.name}: {f'{queue_id}: ' if queue_id else ''}{message}", file=sys.stderr)
        if self._journal is not None:
            self._journal.info(message, queue_id)

    def warning(self, message: str) -> None:
        COMMAND.warning(message)
        if self._journal is not None:
            self._journal.warning(message)

    def error(self, message: str) -> None:
        print(f"{COMMAND.name}: error: {message}", file=sys.stderr)
        if self._journal is not None:
            self._journal.error(message)

    def total(self, what: str, count: int) -> None:
        self.info(f"{what}: {count} message{'' if count == 1 else 's'}")


class _Files:
    """Changes messages on disk, with nobody else at work on them."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def change(self, action: str, queue_ids: Sequence[str], queues: Sequence[str]) -> tuple[str, ...]:
        """The messages among these that were in the queues, and were changed."""
        act, concerned = change.ACTIONS[action]
        return tuple(queue_id for queue_id in queue_ids if act(self._spool, queue_id, queues or concerned))


class _Manager:
    """Has the queue manager change messages."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    def change(self, action: Any, queue_ids: Sequence[str], queues: Any) -> tuple[str, ...]:
        """As the other one."""
        changed = self._client.call("Change", Change(action, tuple(queue_ids), tuple(queues)))
        return tuple(changed.queue_ids)


class _Request(NamedTuple):
    """The command line."""

    # what to do, and to which message, "-" and "ALL" among them, in order
    wanted: list[tuple[tuple[str, ...], str]]
    purge: bool
    places: bool
    long_names: bool
    queues: tuple[str, ...]


def _parse(arguments: Sequence[str]) -> _Request:
    options, queues = COMMAND.parse(arguments, "c:d:e:f:h:H:pr:sSv")
    wanted = []
    switches = set()
    for option, value in options:
        if option in _OPTIONS:
            wanted.append((_OPTIONS[option], value))
        elif option == "-c":
            if not value.startswith("/"):
                COMMAND.fatal("-c requires absolute pathname")
            os.environ["MAIL_CONFIG"] = value
        else:
            switches.add(option)
    for queue in queues:
        if queue not in structure.QUEUES and queue != "flush":
            COMMAND.fatal(f"invalid directory name: {queue}")
    if not wanted and not switches & {"-p", "-s", "-S"}:
        switches |= {"-p", "-s"}
    return _Request(wanted, "-p" in switches, bool(switches & {"-s", "-S"}), "-S" in switches, tuple(queues))


def _named(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name == "-":
            yield from _lines(sys.stdin.buffer)
        else:
            yield name


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Lines of whatever is piped in, their ends cut off; one that is too long for a name in pieces."""
    while line := stream.readline(_LINE_LIMIT):
        yield os.fsdecode(line.removesuffix(b"\n").partition(b"\0")[0])


def _batches(queue_ids: Iterable[str], reporter: _Reporter, warnings: int) -> Iterator[list[str]]:
    """The queue IDs in pieces; what is none is warned of, so many times, when all before it is done."""
    batch: list[str] = []
    for queue_id in queue_ids:
        if is_queue_id(queue_id):
            batch.append(queue_id)
        elif not _POSSIBLE.fullmatch(queue_id):
            yield batch
            batch = []
            for _ in range(warnings):
                reporter.warning(printable(f"invalid mail queue id: {queue_id}"))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _run(request: _Request, spool: Spool, queue: _Files | _Manager, reporter: _Reporter) -> None:
    totals: dict[str, int] = {}
    # Queues that hold no messages have nothing to be changed in them.
    queues = [name for name in request.queues if name in MESSAGE_QUEUES]
    for (actions, every), run in groupby(request.wanted, lambda wanted: (wanted[0], wanted[1] == "ALL")):
        totals |= dict.fromkeys(set(actions) - set(totals), 0)
        if request.queues and not queues:
            continue
        # Named one by one: no message of the queue manager's grows with the queue.
        chosen = change.messages_of(spool, actions[0], queues) if every else _named(name for _, name in run)
        for batch in filter(None, _batches(chosen, reporter, len(actions))):
            changed = {action: set(queue.change(action, batch, queues)) for action in actions}
            for action, queue_ids in changed.items():
                totals[action] += len(queue_ids)
            for queue_id in () if every else batch:
                for action in [action for action in actions if queue_id in changed[action]]:
                    changed[action].remove(queue_id)
                    reporter.info(_WORDS[action][0], queue_id)
    for action, (_, total) in _WORDS.items():
        if action in totals:
            reporter.total(total, totals[action])


def _tidy(request: _Request, spool: Spool, work: structure.Structure) -> None:
    queues = request.queues or structure.QUEUES
    work.put_in_order([queue for queue in queues if queue != "active" or not in_use(spool)])


def _open(reporter_name: str) -> tuple[Spool, _Reporter]:
    try:
        conf = load_config()
        spool = Spool(conf.text("queue_directory"), conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
        identifier = f"{conf.text('syslog_name')}/{reporter_name}"
    except ConfigError as error:
        COMMAND.fatal(str(error))
    except OSError as error:
        COMMAND.fatal(f"chdir {error.filename}: {error.strerror}")
    # Without a log the journal would be standard error, which is told everything already.
    has_log = bool(os.environ.get("PYFIX_LOG")) or os.path.exists(JOURNAL_SOCKET)
    return spool, _Reporter(Journal(identifier) if has_log else None)


def main() -> None:
    """The command."""
    request = _parse(sys.argv[1:])
    spool, reporter = _open(COMMAND.name)
    owner = os.fstat(spool.descriptor)
    if not may_act_as(owner.st_uid):
        COMMAND.fatal("use of this command is reserved for the superuser")
    work = structure.Structure(
        spool,
        reporter.warning,
        time.time(),
        purge=request.purge,
        places=request.places,
        long_names=request.long_names,
    )
    try:
        if request.purge or request.places:
            with acting_as(owner.st_uid, owner.st_gid):
                _tidy(request, spool, work)
        if work.changed_names and any(name != "ALL" for _, name in request.wanted):
            reporter.error(_RENAMED)
            COMMAND.fatal("CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND")
        if request.wanted:
            try:
                client = BlockingClient(CONTROL, socket_path("control", CONTROL.name))
            except Unavailable:
                with acting_as(owner.st_uid, owner.st_gid):
                    _run(request, spool, _Files(spool), reporter)
            else:
                with contextlib.closing(client):
                    _run(request, spool, _Manager(client), reporter)
        if work.renamed:
            reporter.total("Renamed to match inode number", work.renamed)
        if work.changed_names:
            reporter.warning(_RENAMED)
    except (Unavailable, ServiceError, OSError) as error:
        COMMAND.fatal(str(error))


if __name__ == "__main__":
    main()

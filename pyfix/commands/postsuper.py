"""postsuper(1): deletes, holds, releases and requeues messages, and puts the queue in order.

Description
    Asks the queue manager to change messages, so that it never meets a message that changed behind its back. Only
    when the queue manager does not run does postsuper change the files itself. ``-p`` and ``-s`` always do.

Security
    For root and for the owner of the queue. As root it acts with the rights of the queue's owner, so that a queue
    that was tampered with leads it nowhere else.

Diagnostics
    Problems and results are reported on standard error and logged. The exit status is 1 for wrong use and for a
    queue that cannot be reached, else 0, whether messages were found or not, as in Postfix.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pyfix.conf.error import ConfigError
from pyfix.service.blocking import BlockingClient
from pyfix.service.calling import Unavailable, socket_path
from pyfix.service.interface import ServiceError
from pyfix.service.queue import CONTROL, Change
from pyfix.spool import change
from pyfix.spool.directories import ALL_DIRECTORIES, MESSAGE_QUEUES, Spool
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.account import acting_as, may_act_as
from pyfix.system.configuration import load_config
from pyfix.system.journal import JOURNAL_SOCKET, Journal
from pyfix.system.options import Command

COMMAND = Command(
    "postsuper",
    "[-c config_dir] [-d queue_id (delete)] [-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] "
    "[-r queue_id (requeue)] [-s (structure fix)] [-S (redundant structure fix)] [-v (verbose)] [queue...]",
    "Changes messages in the queue. A queue_id of - reads queue IDs from standard input, and one of ALL means all\n"
    "messages of the named queues. Without options: -s -p.",
)

_BATCH = 500
# What Postfix takes for a queue ID: a message of that name it would just not find.
_POSSIBLE = re.compile(r"[0-9A-Za-z_]{1,100}")
_DAY = 86_400


class _Verb(NamedTuple):
    """An action: its option, its name in io.pyfix.Control, and what is said of a message that underwent it."""

    option: str
    action: str
    one: str


# In the order of Postfix's: what is to be deleted is not requeued first.
_VERBS = (
    _Verb("-d", "delete", "removed"),
    _Verb("-r", "requeue", "requeued"),
    _Verb("-h", "hold", "placed on hold"),
    _Verb("-H", "release", "released from hold"),
)
# In the order of the report, which is another.
_TOTALS = {
    "requeue": "Requeued",
    "delete": "Deleted",
    "hold": "Placed on hold",
    "release": "Released from hold",
}


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

    # for each action the queue IDs, "-" and "ALL" among them
    wanted: dict[str, list[str]]
    purge: bool
    structure: bool
    queues: tuple[str, ...]


def _parse(arguments: Sequence[str]) -> _Request:
    options, queues = COMMAND.parse(arguments, "c:d:h:H:pr:sSv")
    wanted: dict[str, list[str]] = {}
    actions = {verb.option: verb.action for verb in _VERBS}
    switches = set()
    for option, value in options:
        if option in actions:
            wanted.setdefault(actions[option], []).append(value)
        elif option == "-c":
            if not value.startswith("/"):
                COMMAND.fatal("-c requires absolute pathname")
            os.environ["MAIL_CONFIG"] = value
        else:
            switches.add(option)
    for queue in queues:
        if queue not in ALL_DIRECTORIES:
            COMMAND.fatal(f"invalid directory name: {queue}")
    default = not wanted and not switches & {"-p", "-s", "-S"}
    structure = default or bool(switches & {"-s", "-S"})
    return _Request(wanted, default or "-p" in switches, structure, tuple(queues))


def _named(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "-":
            yield from (line.rstrip("\n") for line in sys.stdin)
        else:
            yield argument


def _batches(queue_ids: Iterable[str], reporter: _Reporter) -> Iterator[list[str]]:
    """The queue IDs in pieces; what is none is warned of when all before it is done."""
    batch: list[str] = []
    for queue_id in queue_ids:
        if is_queue_id(queue_id):
            batch.append(queue_id)
        elif not _POSSIBLE.fullmatch(queue_id):
            yield batch
            batch = []
            reporter.warning(f"invalid mail queue id: {queue_id[:100]}")
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _run(request: _Request, spool: Spool, queue: _Files | _Manager, reporter: _Reporter) -> None:
    totals = dict.fromkeys(_TOTALS, 0)
    # Queues that hold no messages have nothing to be changed in them.
    queues = [name for name in request.queues if name in MESSAGE_QUEUES]
    for verb in _VERBS if queues or not request.queues else ():
        names = request.wanted.get(verb.action, [])
        every = "ALL" in names
        # Named one by one: no message of the queue manager's grows with the queue.
        chosen = change.messages_of(spool, verb.action, queues) if every else _named(names)
        for batch in filter(None, _batches(chosen, reporter)):
            changed = queue.change(verb.action, batch, queues)
            totals[verb.action] += len(changed)
            for queue_id in () if every else changed:
                reporter.info(verb.one, queue_id)
    for action, count in totals.items():
        if action in request.wanted:
            reporter.info(f"{_TOTALS[action]}: {count} message{'' if count == 1 else 's'}")


def _tidy(request: _Request, spool: Spool) -> None:
    queues = request.queues or ALL_DIRECTORIES
    if request.purge:
        spool.purge([queue for queue in queues if queue in MESSAGE_QUEUES], time.time() - _DAY)
    if request.structure:
        for queue in queues:
            spool.restructure(queue)


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
    try:
        if request.wanted:
            try:
                client = BlockingClient(CONTROL, socket_path("control", CONTROL.name))
            except Unavailable:
                with acting_as(owner.st_uid, owner.st_gid):
                    _run(request, spool, _Files(spool), reporter)
            else:
                with contextlib.closing(client):
                    _run(request, spool, _Manager(client), reporter)
        if request.purge or request.structure:
            with acting_as(owner.st_uid, owner.st_gid):
                _tidy(request, spool)
    except (Unavailable, ServiceError, OSError) as error:
        COMMAND.fatal(str(error))


if __name__ == "__main__":
    main()

"""qshape(1): shows the queue by domain and age.

Description
    Counts the recipients in the queue by domain, or with ``-s`` the messages by their senders' domains, and shows how
    old they are: in columns of minutes, each twice as wide as the one before. A line is a domain; TOTAL is all of them.
    Without arguments the queues incoming and active are counted. A queue that is named by an absolute path may be
    another mail system's. The output is Postfix's.

    ``-b count``  how many columns; 10
    ``-t minutes``  where the first column ends; 5
    ``-l``  all columns are as wide as the first
    ``-s``  senders instead of recipients
    ``-p``  also sums for the domains above, ``.example.com``
    ``-m count``  how many subdomains such a domain has at least; 5
    ``-w columns``  the width, where it is more than 80
    ``-c directory``  where main.cf is
    ``-N count``  on a terminal, shows what is known after so many messages; 1000, and 0 for the end only
    ``-n count``  on a terminal, how many lines; 20

    ``--plot`` draws the same: each cell as dark as it is full. Into a file it draws with characters, all else as above.

    A message without a recipient who is still to be served does not count, nor does a file that is no message. (With
    ``-s``, Postfix's counts such a file for MAILER-DAEMON.)

Security
    For root and for the owner of the queue. As root it acts with the rights of each directory's owner, so that a queue
    that was tampered with leads it nowhere else. Nothing is written. On a terminal, control characters in the names of
    domains are not shown.

Diagnostics
    Problems are reported on standard error. The exit status is 0, or 1 for wrong use and when something could not be
    looked into, which is then missing in the output.
"""

import contextlib
import itertools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pyfix.conf.error import ConfigError
from pyfix.service.shape import Ages, Shape
from pyfix.spool import census
from pyfix.system.account import acting_as
from pyfix.system.clock import now_usec
from pyfix.system.configuration import load_config
from pyfix.system.journal import printable
from pyfix.system.options import Command

COMMAND = Command(
    "qshape",
    "[-s] [-p] [-m min_subdomains] [-b bucket_count] [-t bucket_time] [-l] [-w terminal_width] [-N batch_msg_count] "
    "[-n batch_top_domains] [-c config_directory] [--plot] [queue_name ...]",
    "Shows how many recipients each domain has in the queue, and how old they are, in minutes. -s: messages by their\n"
    "sender's domain. -p: domains above them too. --plot: the same as a picture. The queues are incoming and active\n"
    "unless others are named.",
)

_QUEUES = ("incoming", "active")
_BUCKETS_LIMIT = 1000
# As a shell tells it of what SIGINT has ended.
_INTERRUPTED = 130
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?")
# What clear(1) sends.
_CLEAR = b"\033[H\033[2J\033[3J"


class _Request(NamedTuple):
    """The command line."""

    ages: Ages
    senders: bool
    parents: bool
    min_children: int
    # 0: as wide as the terminal, where that matters
    width: int
    # how many messages between pictures; 0: only one picture
    batch: int
    # how many lines; 0: all
    limit: int
    plot: bool
    queues: Sequence[str]


def _parse(arguments: Sequence[str], *, terminal: bool) -> _Request:
    found, queues = COMMAND.parse(arguments, "b:c:hlm:n:N:pst:w:", ("plot",))
    options = dict(found)
    if "-h" in options:
        COMMAND.help()
    if "-c" in options:
        os.environ["MAIL_CONFIG"] = options["-c"]
    numbers = {name: _number(name, value) for name, value in found if name in {"-b", "-m", "-n", "-N", "-t", "-w"}}

    def positive(name: str, otherwise: float) -> float:
        return number if (number := numbers.get(name, 0)) > 0 else otherwise

    buckets = int(positive("-b", 10))
    if not 1 <= buckets <= _BUCKETS_LIMIT:
        COMMAND.fatal(f"-b: from 1 to {_BUCKETS_LIMIT} are possible")
    plot = "--plot" in options
    return _Request(
        Ages(buckets, positive("-t", 5), "-l" in options),
        "-s" in options,
        "-p" in options,
        int(positive("-m", 5)),
        int(numbers.get("-w", 0)),
        max(int(numbers.get("-N", 1000)), 0) if terminal else 0,
        max(int(numbers.get("-n", 20)), 0) if terminal or plot else 0,
        plot,
        queues or _QUEUES,
    )


def _number(option: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        COMMAND.fatal(f"{option}: {text[:40]!r} is not a number")
    return float(text) if "." in text else int(text)


# -- counting --


def _count(request: _Request, shape: Shape, on_batch: Callable[[], None]) -> bool:
    """Counts all messages; whether all could be looked at."""
    complete = True

    def complain(error: OSError) -> None:
        nonlocal complete
        complete = False
        COMMAND.warning(printable(f"{error.filename}: {error.strerror}"))

    now = now_usec() // 1_000_000
    messages = 0
    for path in _paths(request.queues):
        try:
            owner = os.lstat(path)
        except OSError as error:
            complain(error)
            continue
        with acting_as(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else contextlib.nullcontext():
            for directory, name in census.walk(path, complain):
                message = census.count(name, directory)
                if message is None:
                    continue
                senders = ((message.sender_domain, 1),)
                shape.add(senders if request.senders else message.domains.items(), now - message.arrival)
                messages += 1
                if request.batch and messages % request.batch == 0:
                    on_batch()
    return complete


def _paths(queues: Sequence[str]) -> list[str]:
    """Where the queues are; main.cf is read only where one is named without its path."""
    if all(queue.startswith("/") for queue in queues):
        return list(queues)
    try:
        root = load_config().text("queue_directory")
    except ConfigError as error:
        COMMAND.fatal(str(error))
    return [os.path.join(root, queue) for queue in queues]


# -- showing --


def _show(request: _Request, shape: Shape, *, terminal: bool, clear: bool) -> None:
    """Shows what is known."""
    out = sys.stdout.buffer
    if clear:
        out.write(_CLEAR)
    width = max(request.width, 80)
    if request.plot:
        from pyfix.commands import _plot  # noqa: PLC0415 -- rich takes its time to load

        rows = list(itertools.islice(shape.rows(request.min_children), request.limit or None))
        out.flush()
        if terminal:
            _plot.draw(rows, request.ages.heads(), request.width or shutil.get_terminal_size().columns)
            return
        lines: Iterable[bytes] = _plot.plain(rows, request.ages.heads(), width)
    else:
        lines = shape.lines(width, request.min_children, request.limit)
    for line in lines:
        out.write((printable(line.decode("utf-8", "replace")).encode() if terminal else line) + b"\n")
    out.flush()


def main() -> None:
    """The command."""
    terminal = sys.stdout.isatty()
    request = _parse(sys.argv[1:], terminal=terminal)
    shape = Shape(request.ages, parents=request.parents)

    def show() -> None:
        _show(request, shape, terminal=terminal, clear=request.batch > 0)

    try:
        complete = _count(request, shape, show)
        show()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except OSError as error:
        COMMAND.fatal(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    raise SystemExit(0 if complete else 1)


if __name__ == "__main__":
    main()

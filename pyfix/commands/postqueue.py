"""postqueue(1): shows the queue, and asks for early attempts.

Description
    ``-p`` shows the queue as mailq does, ``-j`` as JSON, an object a line. ``-f`` has all deferred mail tried now,
    ``-i queue_id`` one message, ``-s site`` what is deferred for a destination of fast_flush_domains: a domain, or an
    address in brackets. Output is Postfix's, byte for byte. When the mail system is down, root reads the queue itself.

Security
    Runs with the rights of the user who calls it. Who may see the queue (authorized_mailq_users), and who may have mail
    tried (authorized_flush_users), the services decide. What it shows comes from mail: control characters are shown as
    ``?``.

Diagnostics
    Problems are reported on standard error; the exit status is 69 then, as in Postfix.
"""

import errno
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from msgspec import Struct

from pyfix.conf.config import Config, ConfigError
from pyfix.mail.address import quote_address
from pyfix.service import flush as service
from pyfix.service import showq
from pyfix.service.blocking import BlockingClient
from pyfix.service.calling import Unavailable, socket_path
from pyfix.service.flush import FLUSH
from pyfix.service.interface import Nothing, ServiceError
from pyfix.service.showq import INTERFACE as SHOWQ
from pyfix.service.showq import Message, Recipient
from pyfix.system.clock import syslog_time, utc_offset
from pyfix.system.configuration import load_config
from pyfix.system.options import Command

COMMAND = Command(
    "postqueue",
    "-f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site",
    "Shows the mail queue (-p, or -j for JSON), or has deferred mail tried now: all of it (-f), one message (-i), or "
    "what is for one destination (-s).",
)
EX_UNAVAILABLE = 69

_DOWN = "Cannot flush mail queue - mail system is down"
_FAILURES = {
    "bad": 'Invalid request: "{}"',
    "deny": 'Flush service is not configured for destination "{}"',
    "fail": _DOWN,
}
_FORBIDDEN = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
# What Postfix takes for a queue ID, before it looks for one.
_QUEUE_ID = re.compile(r"[0-9A-Za-z_]{1,255}")
# Characters of a wrong argument.
_SHOWN = 100

_WIDTH = 76
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029, 0xFFFD), "?")
_MARKS = {"active": "*", "hold": "!"}


class _Columns:
    """The table's form: that of long queue IDs, or that of short ones."""

    __slots__ = ("head", "id_width", "size_width", "time_width")

    def __init__(self, *, long_queue_ids: bool) -> None:
        self.id_width, self.size_width, self.time_width = (17, 8, 19) if long_queue_ids else (11, 7, 20)
        if long_queue_ids:
            titles = ("----Queue ID-----", "--Size--", "---Arrival Time----", "--Sender/Recipient------")
        else:
            titles = (
                "-Queue ID-",
                "--Size-- ----Arrival Time----"[:8],
                "----Arrival Time----",
                "-Sender/Recipient-------",
            )
        self.head = self.line(*titles)

    def line(self, queue_id: str, size: str, arrival: str, who: str) -> str:
        return f"{queue_id:<{self.id_width}} {size:>{self.size_width}} {arrival:<{self.time_width}} {who}\n"


def format_table(messages: Iterable[Message], *, long_queue_ids: bool) -> Iterator[str]:
    """The queue as ``postqueue -p`` and mailq show it."""
    columns = _Columns(long_queue_ids=long_queue_ids)
    count = size = 0
    before = ("", "")
    saved_reason = ""
    for message in messages:
        key = (message.queue_name, message.queue_id)
        if key != before:
            yield "\n" if count else columns.head
            yield _first_line(message, columns)
            before, saved_reason = key, ""
            count += 1
            size += message.size
        for recipient in message.recipients:
            reason = _printable(recipient.reason)
            if reason != saved_reason:
                saved_reason = reason
                text = reason or "reason unavailable"
                yield f"{' ' * (_WIDTH - len(text.encode()))}({text})\n"
            yield columns.line("", "", "", _address(recipient.address))
    if count:
        yield f"\n-- {size // 1024} Kbytes in {count} Request{'' if count == 1 else 's'}.\n"
    else:
        yield "Mail queue is empty\n"


def _first_line(message: Message, columns: _Columns) -> str:
    mark = _MARKS.get(message.queue_name, "") + ("#" if message.forced_expire else "")
    local_day = (message.arrival_time + utc_offset(message.arrival_time)) // 86_400
    # The epoch was a Thursday.
    arrival = f"{_DAYS[(local_day + 3) % 7]} {syslog_time(message.arrival_time)}"
    return columns.line(message.queue_id + mark, str(message.size), arrival, _address(message.sender))


def format_json(messages: Iterable[Message]) -> Iterator[str]:
    """The queue as ``postqueue -j`` shows it: an object a line."""
    before = ("", "")
    separator = ""
    for message in messages:
        key = (message.queue_name, message.queue_id)
        if key != before:
            if before[1]:
                yield "]}\n"
            head = {
                "queue_name": message.queue_name,
                "queue_id": message.queue_id,
                "arrival_time": message.arrival_time,
                "message_size": message.size,
                "forced_expire": message.forced_expire,
                "sender": _address(message.sender),
            }
            yield json.dumps(head, ensure_ascii=False)[:-1] + ', "recipients": ['
            before, separator = key, ""
        for recipient in message.recipients:
            yield separator + json.dumps(_members(recipient), ensure_ascii=False)
            separator = ", "
    if before[1]:
        yield "]}\n"


def _members(recipient: Recipient) -> dict[str, str]:
    members = {"orig_address": _address(recipient.original)} if recipient.original else {}
    members["address"] = _address(recipient.address)
    if recipient.reason:
        members[f"{recipient.kind}_reason"] = _printable(recipient.reason)
    return members


def _address(address: str) -> str:
    """An address as people see it; the null sender's mail is the mail system's own."""
    return _printable(quote_address(address)) or "MAILER-DAEMON"


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else text.translate(_UNPRINTABLE)


def fatal(message: str) -> NoReturn:
    """Gives up."""
    COMMAND.fatal(message, EX_UNAVAILABLE)


def show(conf: Config, *, as_json: bool = False) -> None:
    """Shows the queue on standard output."""
    messages = _queue(conf)
    text = (
        format_json(messages)
        if as_json
        else format_table(messages, long_queue_ids=conf.boolean("enable_long_queue_ids"))
    )
    try:
        for piece in text:
            sys.stdout.buffer.write(piece.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fatal("output write error: Broken pipe")


def _queue(conf: Config) -> Iterator[Message]:
    attempt = f"Connect to the {conf.text('mail_name')} showq service"
    try:
        client = BlockingClient(SHOWQ, socket_path("showq", SHOWQ.name))
    except Unavailable as error:
        reason = str(error).rpartition(": ")[2]
        if reason in _FORBIDDEN:
            fatal(f"{attempt}: {reason}")
        return _queue_from_files(conf, f"({attempt}: {reason})")
    return _queue_from_showq(client)


def _queue_from_showq(client: BlockingClient) -> Iterator[Message]:
    try:
        for page in client.stream("List", Nothing()):
            yield from page.messages
    except showq.Denied as error:
        fatal(f"User {error.who} is not allowed to view the mail queue")
    except (Unavailable, ServiceError) as error:
        fatal(f"Queue report unavailable - {error}")


def _queue_from_files(conf: Config, reason: str) -> Iterator[Message]:
    """The queue, read with the rights of its owner, which root has and hardly anybody else."""
    from pyfix.service.listing import messages_of  # noqa: PLC0415 -- seldom needed, and commands start fast
    from pyfix.spool.directories import Spool  # noqa: PLC0415 -- as above
    from pyfix.system.account import acting_as, may_act_as  # noqa: PLC0415 -- as above

    try:
        spool = Spool(conf.text("queue_directory"), conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
    except OSError:
        fatal(f"Queue report unavailable - mail system is down {reason}")
    owner = os.fstat(spool.descriptor)
    if not may_act_as(owner.st_uid):
        fatal(f"Queue report unavailable - mail system is down {reason}")
    COMMAND.warning(f"Mail system is down -- accessing queue directly {reason}")
    with acting_as(owner.st_uid, owner.st_gid):
        yield from messages_of(spool)


def flush(method: str, parameters: Struct, subject: str = "") -> None:
    """Has mail tried now. ``subject`` is what was asked for, for messages."""
    try:
        done = BlockingClient(FLUSH, socket_path("flush", FLUSH.name)).call(method, parameters)
    except service.Denied as error:
        fatal(f"User {error.who} is not allowed to flush the mail queue")
    except (Unavailable, ServiceError) as error:
        COMMAND.warning(str(error))
        fatal(_DOWN)
    if done.status != "ok":
        fatal(_FAILURES[done.status].format(subject))


def _flush_message(queue_id: str) -> None:
    if not _QUEUE_ID.fullmatch(queue_id):
        fatal(f"Cannot flush queue ID - invalid name: {_quoted(queue_id)}")
    flush("FlushMessage", service.Message(queue_id), queue_id)


def _flush_site(site: str) -> None:
    from pyfix.net.hostname import is_hostname, literal_address  # noqa: PLC0415 -- seldom needed

    inside = site[1:-1]
    # IPv6 has its prefix, as in mail addresses.
    prefixed = inside[:5].upper() == "IPV6:"
    is_literal = site == f"[{inside}]" and (":" in inside) == prefixed and literal_address(inside)
    if not (is_hostname(site) or is_literal):
        fatal(f"Cannot flush mail queue - invalid destination: {_quoted(site)}")
    flush("FlushSite", service.Site(site), site)


def _quoted(text: str) -> str:
    return f'"{_printable(text)[:_SHOWN]}{"..." if len(text) > _SHOWN else ""}"'


def _parse(arguments: Sequence[str]) -> tuple[str, str]:
    """The one option that says what to do, and its argument."""
    try:
        options, rest = COMMAND.parse(arguments, "c:fi:jps:v")
    except SystemExit as end:
        raise SystemExit(EX_UNAVAILABLE if end.code else 0) from None
    wanted = []
    for option, value in options:
        if option == "-c":
            os.environ["MAIL_CONFIG"] = value
        elif option != "-v":
            wanted.append((option, value))
    if len(wanted) != 1 or rest:
        fatal(f"usage: {COMMAND.name} {COMMAND.usage}")
    return wanted[0]


def main() -> None:
    """The command."""
    option, value = _parse(sys.argv[1:])
    try:
        if option in ("-p", "-j"):
            show(load_config(), as_json=option == "-j")
        elif option == "-f":
            flush("FlushAll", Nothing())
        elif option == "-s":
            _flush_site(value)
        else:
            _flush_message(value)
    except ConfigError as error:
        fatal(str(error))


if __name__ == "__main__":
    main()

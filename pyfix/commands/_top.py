"""``pyfix top``: the queue as it changes."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pyfix.commands._trace import log_file
from pyfix.conf.config import Config
from pyfix.service.gauges import KINDS, MESSAGE_IDS, WINDOW, Kind, Rates, Sample, kind_of, oldest_usec, top_destinations
from pyfix.service.story import elapsed, parse_line
from pyfix.spool import census, log
from pyfix.spool.census import Counted
from pyfix.spool.directories import MESSAGE_QUEUES, Spool
from pyfix.spool.tally import Tallies
from pyfix.system.account import acting_as
from pyfix.system.clock import now_usec, syslog_time
from pyfix.system.journal import printable
from pyfix.system.journal_reader import FileTail, JournalTail, may_read_journal
from pyfix.system.keyboard import END_OF_INPUT, single_keys
from pyfix.system.usage import load, unit_processes, with_children

_REFRESH = 2.0
_DESTINATIONS = 10
_QUEUES = (*MESSAGE_QUEUES, "corrupt")
# Read at once: entries of the journal, bytes of a log file, messages of the sample.
_ENTRIES, _BYTES, _MESSAGES = 10_000, 4 << 20, 1000
_SECOND = 1_000_000
_STATE = "up.state"
_COLOURS: dict[Kind, str] = {"received": "cyan", "delivered": "green", "deferred": "yellow", "bounced": "red"}


class Waiting(NamedTuple):
    """A line about a destination."""

    domain: str
    deferred: int
    active: int
    reason: str


class Service(NamedTuple):
    """A line about a service."""

    name: str
    processes: int
    memory: int
    # of one processor, in percent; None when there is nothing to compare with
    cpu: float | None
    cpu_seconds: float


class View(NamedTuple):
    """What is shown at a moment."""

    # microseconds since the epoch
    time: int
    host: str
    # in a minute; empty when the log cannot be read
    rates: dict[Kind, float]
    rates_estimated: bool
    # messages, and whether that is estimated; empty when the queue cannot be looked at
    queues: dict[str, tuple[int, bool]]
    # microseconds; None when there is no message
    oldest_age: int | None
    destinations: list[Waiting]
    destinations_estimated: bool
    services: list[Service]


class _Traffic:
    """What the log tells of the last minute."""

    def __init__(self, source: JournalTail | FileTail | None, now: int) -> None:
        self._source = source
        second = now // _SECOND
        self.rates = Rates(second - WINDOW + 1)
        self._read_until = second
        if isinstance(source, JournalTail):
            entries = source.recent(now - WINDOW * _SECOND, _ENTRIES)
            self._add((entry.time, entry.message) for entry in entries)
            if len(entries) == _ENTRIES:
                self.rates.miss(second - WINDOW, entries[-1].time // _SECOND)
        elif source:
            lines = list(_parsed(source.recent(_BYTES), now))
            self._add(lines)
            if lines and not source.whole:
                self.rates.miss(second - WINDOW, lines[0][0] // _SECOND)

    def look(self, now: int) -> tuple[dict[Kind, float], bool]:
        """The rates, and whether they are estimated."""
        second = now // _SECOND
        if isinstance(self._source, JournalTail):
            entries = self._source.read(_ENTRIES)
            self._add((entry.time, entry.message) for entry in entries)
            if len(entries) == _ENTRIES:
                self.rates.miss(self._read_until, second)
        elif self._source:
            self._add(_parsed(self._source.read(_BYTES), now))
        self._read_until = second
        return (self.rates.per_minute(second), self.rates.is_estimated(second)) if self._source else ({}, False)

    def _add(self, lines: Iterable[tuple[int, str]]) -> None:
        for time, message in lines:
            if kind := kind_of(message):
                self.rates.add(kind, time // _SECOND)


def _parsed(lines: Iterable[str], now: int) -> Iterator[tuple[int, str]]:
    for text in lines:
        if line := parse_line(text, now / _SECOND):
            yield line.time, line.message


class _Queue:
    """What is in the queue."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._tallies = Tallies(spool)
        self._messages: dict[str, Counted] = {}
        owner = os.fstat(spool.descriptor)
        self._owner = (owner.st_uid, owner.st_gid)

    def _as_owner(self) -> AbstractContextManager[None]:
        return acting_as(*self._owner) if os.geteuid() == 0 else nullcontext()

    def look(self, view: View) -> View:
        """The view with what the queue tells; as it is, where this process may not look."""
        try:
            with self._as_owner():
                return self._look(view)
        except PermissionError:
            return view

    def _look(self, view: View) -> View:
        tallies = {queue: self._tallies.look(queue, view.time * 1000) for queue in _QUEUES}
        kept: dict[str, Counted] = {}
        samples = {}
        for queue in ("active", "deferred"):
            messages = self._read(tallies[queue].sample)
            kept.update(messages)
            samples[queue] = Sample(tallies[queue].size, messages)
        self._messages = kept
        oldest = oldest_usec((tally.oldest_usec for tally in tallies.values()), samples.values())
        rows = top_destinations(samples["deferred"], samples["active"], _DESTINATIONS)
        return view._replace(
            queues={queue: (tally.size, tally.estimated) for queue, tally in tallies.items()},
            oldest_age=max(view.time - oldest, 0) if oldest else None,
            destinations=[
                Waiting(_text(row.domain), row.deferred, row.active, self._reason(row.example, row.domain))
                for row in rows
            ],
            destinations_estimated=not all(sample.is_whole for sample in samples.values()),
        )

    def _read(self, sample: Iterable[str]) -> dict[str, Counted]:
        """The messages of a sample; those that are known are not read again."""
        found = {}
        left = _MESSAGES
        for path in sample:
            message = self._messages.get(path)
            if message is None and left:
                left -= 1
                message = census.count(path, self._spool.descriptor)
            if message is not None:
                found[path] = message
        return found

    def _reason(self, path: str, domain: bytes) -> str:
        """Why a deferred message was not delivered to that domain, from its log."""
        if not path:
            return ""
        for entry in log.read(self._spool, "defer", path.rpartition("/")[2]):
            if census.domain_of(entry.recipient.encode()) == domain:
                return entry.reason
        return ""


class _Services:
    """What the services use."""

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self._before: dict[str, float] = {}
        self._time = 0

    def look(self, now: int) -> list[Service]:
        """Those that run, in the order of their names."""
        rows = []
        seconds: dict[str, float] = {}
        for name, pids in sorted((unit_processes() or self._supervised()).items()):
            used = load(pids)
            before = self._before.get(name)
            passed = (now - self._time) / _SECOND
            cpu = max(used.cpu_seconds - before, 0) / passed * 100 if before is not None and passed > 0 else None
            rows.append(Service(name.removesuffix(".service"), used.processes, used.memory, cpu, used.cpu_seconds))
            seconds[name] = used.cpu_seconds
        self._before, self._time = seconds, now
        return rows

    def _supervised(self) -> dict[str, list[int]]:
        """The processes of the services that pyfix up runs."""
        try:
            with open(f"{self._runtime}/{_STATE}", encoding="utf-8") as file:
                state = json.load(file)
        except FileNotFoundError:
            return {}
        main = {name: unit["pid"] for name, unit in state["units"].items() if unit["pid"]}
        trees = with_children(main.values())
        return {name: trees[pid] for name, pid in main.items()}


# -- showing --


def picture(view: View, width: int) -> RenderableType:
    """A view as it is shown."""
    mark = "~" if view.rates_estimated else ""
    if view.rates:
        rates = [Text(f"{kind} {mark}{view.rates[kind]:,.0f}", _COLOURS[kind]) for kind in KINDS]
    else:
        rates = [Text("the log cannot be read")]
    queues = [Text(f"{name} {'~' if estimated else ''}{count:,}") for name, (count, estimated) in view.queues.items()]
    age = "none" if view.oldest_age is None else elapsed(0, view.oldest_age // _SECOND * _SECOND)
    head = Text(f"pyfix on {printable(view.host)}, {syslog_time(view.time // _SECOND)}", "bold")
    lines: list[RenderableType] = [
        head,
        _row("per minute", rates),
        _row("messages", queues or [Text("only root and the queue's owner may look at the queue")]),
        _row("oldest", [Text(age)] if view.queues else []),
    ]
    if view.destinations:
        lines += [Text(), _destinations(view, width)]
    if view.services:
        lines += [Text(), _services(view.services)]
    return Group(*lines)


def _row(label: str, parts: list[Text]) -> Text:
    return Text(f"{label:<12}").append_text(Text("  ").join(parts))


def _destinations(view: View, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", width=width)
    about = " (~)" if view.destinations_estimated else ""
    table.add_column(f"recipients for{about}", no_wrap=True, max_width=max(width // 3, 20))
    table.add_column("deferred", justify="right")
    table.add_column("active", justify="right")
    table.add_column("reason", no_wrap=True, ratio=1)
    for row in view.destinations:
        table.add_row(Text(printable(row.domain)), f"{row.deferred:,}", f"{row.active:,}", Text(printable(row.reason)))
    return table


def _services(services: list[Service]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("service", no_wrap=True)
    for name in ("processes", "memory", "cpu", "cpu time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in services:
        cpu = "-" if row.cpu is None else f"{row.cpu:.0f} %"
        memory = f"{row.memory / 1048576:.1f} MiB"
        table.add_row(row.name, str(row.processes), memory, cpu, f"{row.cpu_seconds:.1f} s")
    memory = f"{sum(row.memory for row in services) / 1048576:.1f} MiB"
    seconds = f"{sum(row.cpu_seconds for row in services):.1f} s"
    table.add_row("together", str(sum(row.processes for row in services)), memory, "", seconds, style="bold")
    return table


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def top(conf: Config, runtime: str, log_files: Iterable[str], *, once: bool) -> int:
    """Shows the queue until ``q``, Ctrl-C or, without a terminal or with ``once``, at once. The exit status."""
    console = Console(highlight=False)
    live = console.is_terminal and sys.stdin.isatty() and not once
    spool = Spool(conf.text("queue_directory"), conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
    now = now_usec()
    source = _open_log(log_files)
    traffic = _Traffic(source, now)
    queue, services = _Queue(spool), _Services(runtime)

    def look() -> RenderableType:
        time = now_usec()
        rates, estimated = traffic.look(time)
        view = View(time, conf.text("myhostname"), rates, estimated, {}, None, [], False, services.look(time))
        return picture(queue.look(view), console.width)

    try:
        if not live:
            console.print(look())
            return 0
        with (
            single_keys() as wait,
            Live(look(), console=console, screen=True, auto_refresh=False) as shown,
        ):
            while wait(_REFRESH) not in {"q", "Q", END_OF_INPUT}:
                shown.update(look(), refresh=True)
    except KeyboardInterrupt:
        return 0
    finally:
        spool.close()
        if source:
            source.close()
    return 0


def _open_log(log_files: Iterable[str]) -> JournalTail | FileTail | None:
    """The log as pyfix trace finds it; None where there is none that this process may read."""
    path = log_file(log_files)
    if path:
        return FileTail(path)
    return JournalTail(MESSAGE_IDS) if may_read_journal() else None

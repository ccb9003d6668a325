"""anvil: counts what SMTP clients do.

Description
    Keeps, for each client of a service, how many connections it has, and how many connections, messages, recipients,
    TLS handshakes and AUTH commands it began within anvil_rate_time_unit. Whoever asks decides what is too much. The
    counts are in memory only: they end with the process, which stays as long as there are clients.

Protocol
    Serves io.pyfix.Anvil. A connection to this service that ends disconnects the clients that it had announced.

Security
    Takes addresses from roles of this system only, touches neither files nor network.

Diagnostics
    Every anvil_status_update_time, and at the end, the largest counts since the last time are logged.
"""

import asyncio
from collections import Counter
from typing import Final, NoReturn

from pyfix.service.anvil import INTERFACE, Client, Counts, Event, Rate
from pyfix.service.dispatch import Call, Connection
from pyfix.service.interface import Nothing
from pyfix.service.role import Role, run_role
from pyfix.system.clock import monotonic, now_usec, syslog_time

Key = tuple[str, str]

_CONNECTION: Final = "connection"
# What the statistics call the kinds of events, in Postfix's order.
_KINDS: Final = (_CONNECTION, "message", "recipient", "newtls", "auth")


class Record:
    """A client's counts."""

    __slots__ = ("count", "rates", "since")

    def __init__(self, now: float) -> None:
        # connections open now
        self.count = 0
        # events by kind since the time unit began
        self.rates: Counter[str] = Counter()
        self.since = now


class Tally:
    """All clients' counts. The time is seconds on a clock that never jumps; ``unit`` is the length of the time unit."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        # connections open now, of all clients
        self.open = 0
        self._records: dict[Key, Record] = {}
        # name of a maximum: the maximum, whose it is, when it was reached (wall clock, seconds)
        self._maxima: dict[str, tuple[int, Key, float]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def connect(self, key: Key, now: float, wall: float) -> Counts:
        """A client has connected."""
        record = self._record(key, now)
        record.count += 1
        self.open += 1
        rate = self._add(key, record, _CONNECTION, wall)
        self._note("connection count", record.count, key, wall)
        return Counts(record.count, rate)

    def disconnect(self, key: Key) -> None:
        """A client has disconnected."""
        record = self._records.get(key)
        if record is not None and record.count:
            record.count -= 1
            self.open -= 1

    def event(self, key: Key, kind: str, now: float, wall: float) -> int:
        """A client did something; how often it did within the time unit."""
        return self._add(key, self._record(key, now), kind, wall)

    def look(self, key: Key, now: float) -> Counts:
        """A client's counts."""
        record = self._records.get(key)
        if record is None:
            return Counts(0, 0)
        return Counts(record.count, record.rates[_CONNECTION] if now - record.since < self.unit else 0)

    def forget(self, now: float) -> None:
        """Drops the clients that are gone and whose time unit is over."""
        over = [k for k, record in self._records.items() if not record.count and now - record.since >= self.unit]
        for key in over:
            del self._records[key]

    def statistics(self) -> list[str]:
        """The log lines of the maxima since the last call."""
        lines = []
        for name in ("connection rate", "connection count", *(f"{kind} rate" for kind in _KINDS[1:]), "cache size"):
            if name in self._maxima:
                value, (service, address), wall = self._maxima[name]
                per = f"{value}/{self.unit}s" if name.endswith("rate") else str(value)
                whose = f" for ({service}:{address})" if service else ""
                lines.append(f"statistics: max {name} {per}{whose} at {syslog_time(wall)}")
        self._maxima.clear()
        return lines

    def _record(self, key: Key, now: float) -> Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record(now)
        elif now - record.since >= self.unit:
            record.rates.clear()
            record.since = now
        return record

    def _add(self, key: Key, record: Record, kind: str, wall: float) -> int:
        record.rates[kind] += 1
        self._note(f"{kind} rate", record.rates[kind], key, wall)
        self._note("cache size", len(self._records), ("", ""), wall)
        return record.rates[kind]

    def _note(self, name: str, value: int, key: Key, wall: float) -> None:
        if name not in self._maxima or value > self._maxima[name][0]:
            self._maxima[name] = (value, key, wall)


class Anvil:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._tally = Tally(role.conf.seconds("anvil_rate_time_unit"))
        self._busy = False
        role.implement(
            INTERFACE, {"Connect": self.connect, "Disconnect": self.disconnect, "Count": self.count, "Look": self.look}
        )

    def connect(self, call: Call[Client]) -> Counts:
        """A client has connected."""
        key = (call.parameters.service, call.parameters.address)
        self._announced(call.connection)[key] += 1
        counts = self._tally.connect(key, monotonic(), now_usec() / 1e6)
        self._stay()
        return counts

    def disconnect(self, call: Call[Client]) -> Nothing:
        """A client has disconnected."""
        key = (call.parameters.service, call.parameters.address)
        announced = self._announced(call.connection)
        if announced[key]:
            announced[key] -= 1
            self._tally.disconnect(key)
        if not announced[key]:
            del announced[key]
        self._stay()
        return Nothing()

    def count(self, call: Call[Event]) -> Rate:
        """A client has done something."""
        event = call.parameters
        return Rate(self._tally.event((event.service, event.address), event.kind, monotonic(), now_usec() / 1e6))

    def look(self, call: Call[Client]) -> Counts:
        """What a client has done."""
        return self._tally.look((call.parameters.service, call.parameters.address), monotonic())

    def _announced(self, connection: Connection) -> Counter[Key]:
        """The clients that a caller has announced."""
        if connection.state is None:
            announced: Counter[Key] = Counter()
            connection.state = announced
            connection.on_close.append(lambda: self._gone(announced))
        state: Counter[Key] = connection.state
        return state

    def _gone(self, announced: Counter[Key]) -> None:
        """A caller is gone, and its clients with it."""
        for key, number in announced.items():
            for _ in range(number):
                self._tally.disconnect(key)
        self._stay()

    def _stay(self) -> None:
        """Holds off the idle exit while clients are connected: their count would be lost."""
        if bool(self._tally.open) != self._busy:
            self._busy = not self._busy
            (self._role.begin_work if self._busy else self._role.end_work)()

    async def report(self) -> None:
        """Logs the statistics."""
        self._tally.forget(monotonic())
        for line in self._tally.statistics():
            self._role.journal.info(line)

    async def run(self, interval: int) -> None:
        """Logs the statistics again and again."""
        while True:
            await asyncio.sleep(interval)
            await self.report()


async def start(role: Role) -> None:
    """Serves."""
    anvil = Anvil(role)
    reporting = asyncio.get_running_loop().create_task(anvil.run(role.conf.seconds("anvil_status_update_time")))

    async def stop() -> None:
        reporting.cancel()
        await anvil.report()

    role.on_stop.append(stop)


def main() -> NoReturn:
    """The program."""
    run_role("anvil", start, __doc__ or "")


if __name__ == "__main__":
    main()

"""Unit files on disk: found, joined with their drop-ins, moved below a prefix, and made into a plan.

Where several directories hold a file of one name, the first directory's is used. Drop-ins are ``NAME.d/*.conf`` and,
for ``pyfix-smtpd.service``, also ``pyfix-.service.d/*.conf``. A unit that is a link to /dev/null is masked: it does
not exist. Source: systemd.unit(5).
"""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from pyfix.conf.unit import MAX_UNIT_SIZE, Setting, Unit, UnitError, parse_unit
from pyfix.conf.unit_kinds import (
    PathUnit,
    ServiceUnit,
    SocketUnit,
    TimerUnit,
    read_path,
    read_service,
    read_socket,
    read_timer,
)

_NAME = re.compile(r"pyfix(?:-[A-Za-z0-9_]+)*\.(?:service|socket|timer|path)")


class Places(NamedTuple):
    """Where /run/pyfix, /var/spool/pyfix, /etc/pyfix, /var/lib/pyfix and /run are."""

    runtime: str = "/run/pyfix"
    spool: str = "/var/spool/pyfix"
    configuration: str = "/etc/pyfix"
    data: str = "/var/lib/pyfix"
    run: str = "/run"

    @classmethod
    def below(cls, prefix: str) -> "Places":
        """The same below one directory: run, spool, etc and lib."""
        return cls(*(f"{prefix}/{name}" for name in ("run", "spool", "etc", "lib", "run")))

    def moved(self, path: str) -> str:
        """A path of a unit file, where it is; what is not pyfix's own stays."""
        for original, place in zip(_PACKAGED[:4], self[:4], strict=True):
            if path == original or path.startswith(original + "/"):
                return place + path[len(original) :]
        return path


_PACKAGED = Places()


class UnitSet(NamedTuple):
    """The units of a system, each kind by name, checked against each other."""

    units: tuple[Unit, ...]
    services: dict[str, ServiceUnit]
    sockets: tuple[SocketUnit, ...]
    timers: tuple[TimerUnit, ...]
    paths: tuple[PathUnit, ...]


def load_units(directories: Sequence[str], places: Places) -> UnitSet:
    """Reads all pyfix units of the directories; raises UnitError and OSError."""
    files: dict[str, str] = {}
    for directory in directories:
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            if _NAME.fullmatch(name):
                files.setdefault(name, os.path.join(directory, name))
    units = tuple(
        _load_unit(name, path, directories)
        for name, path in sorted(files.items())
        if os.path.realpath(path) != os.devnull
    )
    if not units:
        raise UnitError(f"no pyfix units in {', '.join(directories)}")
    kinds = {
        kind: [unit for unit in units if unit.name.endswith(kind)] for kind in ("service", "socket", "timer", "path")
    }
    services = {unit.name: read_service(unit) for unit in kinds["service"]}
    sockets = tuple(_moved_socket(read_socket(unit), places) for unit in kinds["socket"])
    timers = tuple(map(read_timer, kinds["timer"]))
    paths = tuple(_moved_path(read_path(unit), places) for unit in kinds["path"])
    triggers: tuple[SocketUnit | TimerUnit | PathUnit, ...] = (*sockets, *timers, *paths)
    for trigger in triggers:
        if trigger.service not in services:
            raise UnitError(f"{trigger.name}: there is no {trigger.service}")
    return UnitSet(units, services, sockets, timers, paths)


def _load_unit(name: str, path: str, directories: Sequence[str]) -> Unit:
    """A unit and its drop-ins, in the order of their file names."""
    drop_ins: dict[str, str] = {}
    for directory in directories:
        for drop_in_directory in _drop_in_directories(name):
            folder = os.path.join(directory, drop_in_directory)
            for file in os.listdir(folder) if os.path.isdir(folder) else ():
                if file.endswith(".conf") and not file.startswith("."):
                    drop_ins.setdefault(file, os.path.join(folder, file))
    settings = list(_parse_file(path))
    for _, drop_in in sorted(drop_ins.items()):
        settings += _parse_file(drop_in)
    return Unit(name, settings)


def _drop_in_directories(name: str) -> tuple[str, ...]:
    """The most specific first: ``a-b.service.d``, ``a-.service.d``."""
    stem, _, suffix = name.rpartition(".")
    parts = stem.split("-")
    prefixes = ["-".join(parts[:count]) + "-" for count in range(len(parts) - 1, 0, -1)]
    return tuple(f"{candidate}.{suffix}.d" for candidate in (stem, *prefixes))


def _parse_file(path: str) -> tuple[Setting, ...]:
    with open(path, "rb") as file:
        data = file.read(MAX_UNIT_SIZE + 1)
    try:
        return parse_unit(data.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        raise UnitError(f"{path}: not UTF-8 at byte {error.start}") from error


def _moved_socket(unit: SocketUnit, places: Places) -> SocketUnit:
    return replace(unit, listen=tuple(map(places.moved, unit.listen)))


def _moved_path(unit: PathUnit, places: Places) -> PathUnit:
    return replace(unit, not_empty=tuple(map(places.moved, unit.not_empty)))

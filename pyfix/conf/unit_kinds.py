"""Service, socket, timer and path units as ``pyfix up`` understands them.

What it honours is the table HONOURED; what only systemd can do is SANDBOX; what has no effect outside systemd's own
bookkeeping is BOOKKEEPING. A key in none of them is reported by ``pyfix up --explain``.
"""

import re
from typing import Any, Literal, get_args

from msgspec import Struct

from pyfix.conf.unit import Command, Unit, UnitError


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LISTENERS = (
    "ListenStream",
    "SocketMode",
    "SocketUser",
    "SocketGroup",
    "DirectoryMode",
    "Backlog",
    "BindIPv6Only",
    "FreeBind",
)
_IDENTITY = ("User", "Group", "DynamicUser", "SupplementaryGroups", "UMask", "LimitNOFILE", "Environment")
_TIMES = ("RestartMaxDelaySec", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec")

HONOURED: dict[str, frozenset[str]] = {
    "Unit": frozenset({"After", "StartLimitBurst", "StartLimitIntervalSec"}),
    "Service": frozenset(
        {
            "Type",
            "ExecStart",
            "ExecReload",
            "Restart",
            "RestartPreventExitStatus",
            "RestartSteps",
            "RemainAfterExit",
            "KillMode",
            "RuntimeDirectory",
            "RuntimeDirectoryMode",
        }
        | {*_IDENTITY, *_TIMES}
    ),
    "Socket": frozenset({*_LISTENERS, "FileDescriptorName", "Service"}),
    "Timer": frozenset({"OnActiveSec", "OnBootSec", "OnUnitInactiveSec", "Unit"}),
    "Path": frozenset({"DirectoryNotEmpty", "Unit"}),
}
"""What ``pyfix up`` applies, by section."""

SANDBOX = _keys(
    """
    AmbientCapabilities BindPaths BindReadOnlyPaths CapabilityBoundingSet DevicePolicy ExecPaths InaccessiblePaths
    IPAddressAllow IPAddressDeny KeyringMode LoadCredential LockPersonality MemoryDenyWriteExecute MountAPIVFS
    NoExecPaths NoNewPrivileges PrivateDevices PrivateIPC PrivateMounts PrivateNetwork PrivateTmp PrivateUsers
    ProcSubset ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs ProtectKernelModules
    ProtectKernelTunables ProtectProc ProtectSystem ReadOnlyPaths ReadWritePaths RemoveIPC RestrictAddressFamilies
    RestrictFileSystems RestrictNamespaces RestrictRealtime RestrictSUIDSGID RootDirectory SecureBits
    SocketBindAllow SocketBindDeny SystemCallArchitectures SystemCallErrorNumber SystemCallFilter
    TemporaryFileSystem
    """
)
"""What confines a service. Only systemd applies it."""

BOOKKEEPING = _keys(
    """
    AccuracySec Alias Before ConditionPathExists CPUAccounting DefaultDependencies Description Documentation
    ExecCondition ExecStartPost ExecStop ExecStopPost IOAccounting LogExtraFields LogLevelMax
    LogRateLimitIntervalSec MemoryAccounting MemoryHigh MemoryMax OnFailure PartOf PollLimitBurst
    PollLimitIntervalSec ReloadPropagatedFrom Slice SuccessExitStatus SyslogLevel
    TasksAccounting TasksMax TriggerLimitBurst TriggerLimitIntervalSec WantedBy Wants
    """
)
"""What orders, accounts for and describes units in systemd."""

ServiceType = Literal["simple", "exec", "notify", "oneshot"]
RestartPolicy = Literal["no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"]
KillMode = Literal["control-group", "mixed"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT = re.compile(r"[0-9]{1,5}")
_STATUS = re.compile(r"[0-9]{1,3}")


class Identity(Struct, frozen=True, kw_only=True):
    """As whom a service runs; empty texts: as the supervisor."""

    user: str = ""
    group: str = ""
    supplementary_groups: tuple[str, ...] = ()
    dynamic: bool = False


class ServiceUnit(Struct, frozen=True, kw_only=True):
    """A .service unit. Times are in seconds."""

    name: str
    command: Command
    type: ServiceType = "simple"
    # ExecReload= is there: SIGHUP to the main process, where there is one
    reloads: bool = False
    restart: RestartPolicy = "no"
    restart_sec: float = 0.1
    # the pause grows to restart_max_delay_sec over so many restarts; 0: it does not
    restart_steps: int = 0
    restart_max_delay_sec: float = 0.0
    # exit statuses after which Restart= does not apply
    restart_prevented: frozenset[int] = frozenset()
    remain_after_exit: bool = False
    # "mixed": SIGTERM goes to the main process alone, and what is left of its group when it is gone gets SIGKILL
    kill_mode: KillMode = "control-group"
    timeout_start_sec: float = 90.0
    timeout_stop_sec: float = 90.0
    # 0: no watchdog
    watchdog_sec: float = 0.0
    start_limit_interval_sec: float = 10.0
    start_limit_burst: int = 5
    identity: Identity = Identity()
    umask: int = 0o022
    # 0: as the supervisor
    limit_nofile: int = 0
    environment: dict[str, str] = {}
    # below /run
    runtime_directories: tuple[str, ...] = ()
    runtime_directory_mode: int = 0o755
    # services that must be stopped later than this one
    after: tuple[str, ...] = ()

    def pause(self, restarts: int) -> float:
        """Seconds before the next restart, after so many in a row."""
        if not self.restart_steps or not 0 < self.restart_sec < self.restart_max_delay_sec:
            return self.restart_sec
        growth = self.restart_max_delay_sec / self.restart_sec
        return float(self.restart_sec * growth ** (min(restarts, self.restart_steps) / self.restart_steps))


class SocketUnit(Struct, frozen=True, kw_only=True):
    """A .socket unit."""

    name: str
    service: str
    # paths, "PORT", "ADDRESS:PORT", "[ADDRESS]:PORT"
    listen: tuple[str, ...]
    fd_name: str
    mode: int = 0o666
    user: str = ""
    group: str = ""
    directory_mode: int = 0o755
    backlog: int = 4096
    ipv6_only: bool = False
    # addresses that no interface has
    free_bind: bool = False


class TimerUnit(Struct, frozen=True, kw_only=True):
    """A .timer unit: seconds after the supervisor's start, and after the service's last end."""

    name: str
    service: str
    on_active: tuple[float, ...] = ()
    on_inactive: tuple[float, ...] = ()


class PathUnit(Struct, frozen=True, kw_only=True):
    """A .path unit: directories that shall not stay filled while the service is down."""

    name: str
    service: str
    not_empty: tuple[str, ...] = ()


def read_service(unit: Unit) -> ServiceUnit:
    """What a .service unit says; raises UnitError."""
    commands = unit.commands("Service", "ExecStart")
    if len(commands) != 1:
        raise UnitError(f"{unit.name}: {len(commands)} ExecStart= lines; one is needed")
    kind = _choice(unit, "Type", ServiceType, "simple")
    reloads = [command.argv for command in unit.commands("Service", "ExecReload") if kind != "oneshot"]
    if any((argv[0].rpartition("/")[2], *argv[1:]) != ("kill", "-HUP", "$MAINPID") for argv in reloads):
        raise UnitError(f"{unit.name}: ExecReload= other than kill -HUP $MAINPID is not supported")
    return ServiceUnit(
        name=unit.name,
        command=commands[0],
        type=kind,
        reloads=bool(reloads),
        restart=_choice(unit, "Restart", RestartPolicy, "no"),
        restart_sec=unit.seconds("Service", "RestartSec", 0.1),
        restart_steps=unit.integer("Service", "RestartSteps", 0),
        restart_max_delay_sec=unit.seconds("Service", "RestartMaxDelaySec", 0.0),
        restart_prevented=_statuses(unit),
        remain_after_exit=unit.boolean("Service", "RemainAfterExit", default=False),
        kill_mode=_choice(unit, "KillMode", KillMode, "control-group"),
        timeout_start_sec=unit.seconds("Service", "TimeoutStartSec", 90.0) or float("inf"),
        timeout_stop_sec=unit.seconds("Service", "TimeoutStopSec", 90.0) or float("inf"),
        watchdog_sec=unit.seconds("Service", "WatchdogSec", 0.0),
        start_limit_interval_sec=unit.seconds("Unit", "StartLimitIntervalSec", 10.0),
        start_limit_burst=unit.integer("Unit", "StartLimitBurst", 5),
        identity=Identity(
            user=unit.text("Service", "User"),
            group=unit.text("Service", "Group"),
            supplementary_groups=unit.words("Service", "SupplementaryGroups"),
            dynamic=unit.boolean("Service", "DynamicUser", default=False),
        ),
        umask=unit.integer("Service", "UMask", 0o022, base=8),
        limit_nofile=_limit(unit),
        environment=_environment(unit),
        runtime_directories=_runtime_directories(unit),
        runtime_directory_mode=unit.integer("Service", "RuntimeDirectoryMode", 0o755, base=8),
        after=tuple(word for word in unit.words("Unit", "After") if word.endswith(".service")),
    )


def read_socket(unit: Unit) -> SocketUnit:
    """What a .socket unit says; raises UnitError."""
    listen = unit.values("Socket", "ListenStream")
    for address in listen:
        _check_listen(unit, address)
    return SocketUnit(
        name=unit.name,
        service=unit.text("Socket", "Service", _service_named_after(unit)),
        listen=listen,
        fd_name=unit.text("Socket", "FileDescriptorName", unit.name),
        mode=unit.integer("Socket", "SocketMode", 0o666, base=8),
        user=unit.text("Socket", "SocketUser"),
        group=unit.text("Socket", "SocketGroup"),
        directory_mode=unit.integer("Socket", "DirectoryMode", 0o755, base=8),
        backlog=unit.integer("Socket", "Backlog", 4096),
        ipv6_only=unit.text("Socket", "BindIPv6Only", "default") == "ipv6-only",
        free_bind=unit.boolean("Socket", "FreeBind", default=False),
    )


def read_timer(unit: Unit) -> TimerUnit:
    """What a .timer unit says; raises UnitError. The supervisor's start stands for the machine's."""
    return TimerUnit(
        name=unit.name,
        service=unit.text("Timer", "Unit", _service_named_after(unit)),
        on_active=_spans(unit, "OnActiveSec") + _spans(unit, "OnBootSec"),
        on_inactive=_spans(unit, "OnUnitInactiveSec"),
    )


def read_path(unit: Unit) -> PathUnit:
    """What a .path unit says; raises UnitError."""
    return PathUnit(
        name=unit.name,
        service=unit.text("Path", "Unit", _service_named_after(unit)),
        not_empty=unit.values("Path", "DirectoryNotEmpty"),
    )


def not_applied(unit: Unit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of a unit that confine it and are not applied, and those that are not known here."""
    sandbox, unknown = set(), set()
    for setting in unit.settings:
        if setting.key in SANDBOX:
            sandbox.add(setting.key)
        elif setting.key not in HONOURED.get(setting.section, ()) and setting.key not in BOOKKEEPING:
            unknown.add(f"{setting.section}.{setting.key}")
    return tuple(sorted(sandbox)), tuple(sorted(unknown))


def _service_named_after(unit: Unit) -> str:
    return unit.name.rpartition(".")[0] + ".service"


def _choice(unit: Unit, key: str, choices: Any, default: str) -> Any:
    text = unit.text("Service", key, default)
    if text not in get_args(choices):
        raise UnitError(f"{unit.name}: {key}={text} is not supported; known are {', '.join(get_args(choices))}")
    return text


def _statuses(unit: Unit) -> frozenset[int]:
    """The exit statuses of RestartPreventExitStatus=; names and signals are not known here."""
    words = unit.words("Service", "RestartPreventExitStatus")
    for word in words:
        if not _STATUS.fullmatch(word) or int(word) > 255:
            raise UnitError(f"{unit.name}: RestartPreventExitStatus={word[:60]}: not a number from 0 to 255")
    return frozenset(map(int, words))


def _limit(unit: Unit) -> int:
    """The soft limit of ``SOFT:HARD``; both are one here."""
    text = unit.text("Service", "LimitNOFILE").partition(":")[0]
    if len(text) > 7 or text.strip("0123456789"):
        raise UnitError(f"{unit.name}: LimitNOFILE={text}: not a number")
    return int(text or "0")


def _environment(unit: Unit) -> dict[str, str]:
    variables = {}
    for word in unit.words("Service", "Environment"):
        name, equals, value = word.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise UnitError(f"{unit.name}: Environment={word[:60]}: not NAME=value")
        variables[name] = value
    return variables


def _runtime_directories(unit: Unit) -> tuple[str, ...]:
    directories = unit.words("Service", "RuntimeDirectory")
    for directory in directories:
        if directory.startswith("/") or ".." in directory.split("/"):
            raise UnitError(f"{unit.name}: RuntimeDirectory={directory}: not a plain name below /run")
    return directories


def _check_listen(unit: Unit, address: str) -> None:
    if address.startswith("/"):
        return
    port = address.rpartition(":")[2]
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise UnitError(f"{unit.name}: ListenStream={address}: neither a path nor [ADDRESS:]PORT")


def _spans(unit: Unit, key: str) -> tuple[float, ...]:
    """Time spans of a timer."""
    return tuple(
        Unit(unit.name, [setting]).seconds(setting.section, key, 0.0) for setting in unit.entries("Timer", key)
    )

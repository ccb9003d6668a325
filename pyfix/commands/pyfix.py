"""pyfix(1): runs the mail system without systemd, and shows what it does.

Description
    ``pyfix up`` reads the unit files that systemd would read, and runs what they describe: for development, containers
    and tests. It opens the sockets, starts services when somebody connects, when a timer elapses or when a directory
    has files, restarts what dies, and ends all of it in order on SIGTERM or SIGINT. SIGHUP reloads the roles.

    It honours: ListenStream=, SocketMode=, SocketUser=, SocketGroup=, DirectoryMode=, Backlog=, BindIPv6Only=,
    FreeBind=, FileDescriptorName=, Service=; Type= (simple, exec, notify, oneshot), ExecStart=,
    ExecReload= (kill -HUP), Restart=, RestartPreventExitStatus= (nothing starts the service for a minute, or until a
    reload), RestartSec=, RestartSteps=, RestartMaxDelaySec=,
    RemainAfterExit=, KillMode= (control-group, mixed), TimeoutStartSec=, TimeoutStopSec=, WatchdogSec=, User=, Group=,
    SupplementaryGroups=, DynamicUser= (as the user pyfix), UMask=, LimitNOFILE=, Environment=,
    RuntimeDirectory=, RuntimeDirectoryMode=; StartLimitIntervalSec=, StartLimitBurst= (a service that is started too
    often waits until the interval is over), After= between services (for the order of the end); OnActiveSec=,
    OnBootSec=, OnUnitInactiveSec=; DirectoryNotEmpty=; drop-ins, and an empty value that resets a list. The sandbox it
    cannot apply. ``--explain`` lists what of each unit is not applied.

    Unit files are looked for in the directories of ``--units``, in DIR/etc/systemd with ``--prefix DIR``, and in the
    checkout's units/, or, where pyfix is installed, in systemd's directories.

    ``pyfix up --prefix DIR`` keeps everything below DIR: etc (main.cf is made when there is none), run, spool, lib, and
    the log file DIR/log. All roles then run as the user who started it.

    ``pyfix status`` shows the services and the queue, ``pyfix check`` what is wrong with the configuration, the queue
    directory and, where systemd runs the roles, with what they need there: accounts, directories, Python modules,
    sockets.

    ``pyfix trace QUEUE_ID`` tells a message's story on one screen: who sent it, where it is now and when it is tried
    next, each recipient with the attempts and what the last one took (before the queue manager, in it, for the
    connection, for the transmission), and what happened when. Of the messages that came of it or that it came from,
    its notice, its next name after ``postsuper -r``, its next queue in this system, it tells in a line what became of
    them. Where the story is longer than a screen its middle is left out, unless ``--all`` is given. ``--lines`` shows
    what was logged instead, of these other messages too, with the time that passed between the lines.
    ``pyfix trace ADDRESS`` tells in a line of each of the ten newest messages from or to an address, and of refusals.

    ``pyfix top`` shows the queue as it changes, until ``q`` or Ctrl-C: what comes in and goes out in a minute, how many
    messages each queue has and how old the oldest is, for which domains most of the recipients wait and why, and what
    the services use. ``--once``, or when the output is no terminal: one picture. What is estimated has a ``~``.

    The journal is read through its index, so that its size does not matter; the caller must be root or a member of the
    group systemd-journal or adm. A log file is read instead where ``--log`` or PYFIX_LOG names one, and where there is
    no journal: /var/log/mail.log or /var/log/maillog.

Security
    ``pyfix up`` trusts the unit files and main.cf. Started as root it runs each role as its unit's user, where the
    user pyfix exists. Notifications count only from a service's main process, which the kernel vouches for.

Diagnostics
    Problems are reported on standard error and in the log. The exit status is 0, or 1 for problems that were found, 64
    for wrong arguments, 75 for a queue directory without room for mail, and 78 for a configuration that cannot work.

Environment
    MAIL_CONFIG is the directory of main.cf, PYFIX_RUNTIME that of the sockets, PYFIX_LOG a log file for systems without
    a journal.
"""

import getopt
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pyfix.conf.config import Config
from pyfix.conf.error import ConfigError
from pyfix.conf.unit import UnitError
from pyfix.conf.unit_kinds import not_applied
from pyfix.conf.version import VERSION
from pyfix.spool import inspection
from pyfix.spool.directories import Spool
from pyfix.system.configuration import load_config, load_config_from
from pyfix.system.journal import JOURNAL_SOCKET, Journal
from pyfix.system.unit_files import Places, UnitSet, load_units

_USAGE = """\
usage: pyfix up [--prefix DIR] [--units DIR ...] [--daemon] [--explain]
       pyfix status [--prefix DIR]
       pyfix check [--prefix DIR]
       pyfix trace [--prefix DIR] [--log FILE] [--all | --lines] QUEUE_ID | ADDRESS
       pyfix top [--prefix DIR] [--log FILE] [--once]

Runs the mail system without systemd, and shows what it does. See pyfix(1pyfix)."""

_EX_CONFIG = 78
_STATE, _PID = "up.state", "up.pid"


def main() -> None:
    """The command."""
    verbs: dict[str, Callable[[dict[str, list[str]], list[str]], int]] = {
        "up": _up, "status": _status, "check": _check, "trace": _trace, "top": _top,
    }  # fmt: skip
    arguments = sys.argv[1:]
    if arguments[:1] == ["--help"]:
        print(_USAGE)
        raise SystemExit(0)
    if arguments[:1] == ["--version"]:
        print(f"pyfix {VERSION}")
        raise SystemExit(0)
    if not arguments or arguments[0] not in verbs:
        _wrong_arguments("which of up, status, check, trace and top?")
    try:
        found, rest = getopt.gnu_getopt(
            arguments[1:],
            "",
            ["prefix=", "units=", "log=", "all", "daemon", "explain", "help", "lines", "once", "version"],
        )
    except getopt.GetoptError as error:
        _wrong_arguments(str(error))
    options: dict[str, list[str]] = {}
    for name, value in found:
        options.setdefault(name, []).append(value)
    if "--help" in options:
        print(_USAGE)
        raise SystemExit(0)
    try:
        raise SystemExit(verbs[arguments[0]](options, rest))
    except (ConfigError, UnitError) as error:
        _say(f"error: {error}")
        raise SystemExit(_EX_CONFIG) from None
    except OSError as error:
        _say(f"error: {error.strerror}{f': {error.filename}' if error.filename else ''}")
        raise SystemExit(1) from None


def _wrong_arguments(message: str) -> NoReturn:
    _say(message)
    print(_USAGE, file=sys.stderr)
    raise SystemExit(os.EX_USAGE)


def _say(message: str) -> None:
    print(f"pyfix: {message}", file=sys.stderr, flush=True)


def _prefix(options: dict[str, list[str]]) -> str:
    prefix = options.get("--prefix", [""])[-1]
    return os.path.abspath(prefix) if prefix else ""


def _runtime(options: dict[str, list[str]]) -> str:
    prefix = _prefix(options)
    return f"{prefix}/run" if prefix else os.environ.get("PYFIX_RUNTIME") or "/run/pyfix"


def _config(options: dict[str, list[str]]) -> Config:
    prefix = _prefix(options)
    return load_config_from(f"{prefix}/etc") if prefix else load_config()


# -- up --


def _up(options: dict[str, list[str]], rest: list[str]) -> int:
    from pyfix.system import launch  # noqa: PLC0415 -- the other verbs start faster without it

    if rest:
        _wrong_arguments(f"unexpected argument {rest[0]!r}")
    prefix = _prefix(options)
    arranged = launch.arrange(prefix, options.get("--units", []), os.environ)
    os.environ.update(arranged.environment)
    if prefix:
        _make_main_cf(prefix)
    conf = load_config_from(arranged.places.configuration)
    _check_config(conf)
    spool = os.path.abspath(conf.text("queue_directory"))
    places = arranged.places._replace(spool=spool, data=os.path.abspath(conf.text("data_directory")))
    units = load_units(arranged.unit_directories, places)
    if "--explain" in options:
        _explain(units)
        return 0
    try:
        pid_file = launch.PidFile(f"{places.runtime}/{_PID}")
    except launch.AlreadyRunning as holder:
        _say(f"error: another pyfix up is running here, process {holder}")
        return 1

    def work(ready: Callable[[], None]) -> int:
        return _supervise(units, arranged._replace(places=places), conf, pid_file, ready)

    if "--daemon" in options:
        launch.detach(pid_file, f"{prefix}/up.log" if prefix else "/var/log/pyfix-up.log", work)
    return work(lambda: None)


def _supervise(units: UnitSet, arranged: Any, conf: Config, pid_file: Any, ready: Callable[[], None]) -> int:
    from pyfix.system.identity import Identities  # noqa: PLC0415 -- as above
    from pyfix.system.launch import role_command  # noqa: PLC0415
    from pyfix.system.supervisor import Plan, Supervisor  # noqa: PLC0415

    places = arranged.places
    identities = Identities(conf.text("mail_owner"), change=places.runtime == "/run/pyfix")
    journal = Journal(f"{conf.text('syslog_name')}/up")
    logged = bool(os.environ.get("PYFIX_LOG")) or os.path.exists(JOURNAL_SOCKET)

    def say(message: str) -> None:
        _say(message)
        if logged:
            journal.info(message)

    pid_file.write()
    try:
        _make_directories(conf, identities.changes)
        plan = Plan(
            units.services, units.sockets, units.timers, units.paths, arranged.environment, places.run, role_command
        )
        say(f"version {VERSION} starts, configuration {places.configuration}")
        for problem in conf.set_but_unimplemented():
            say(f"warning: {problem}")
        say("the sandbox of the unit files is not applied: only systemd can do that")
        if not identities.changes:
            say(f"all roles run as the user who started this (uid {os.getuid()})")
        Supervisor(plan, identities, say, f"{places.runtime}/{_STATE}").run(ready)
        say("ended")
    except OSError as error:
        say(f"error: {error.strerror}{f': {error.filename}' if error.filename else ''}")
        return 1
    finally:
        pid_file.remove()
    return 0


def _make_main_cf(prefix: str) -> None:
    """A main.cf for a place of one's own; one that is there stays."""
    path = f"{prefix}/etc/main.cf"
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        file.write(f"queue_directory = {prefix}/spool\ndata_directory = {prefix}/lib\n")


def _make_directories(conf: Config, give_away: bool) -> None:
    """The queue directory and the data directory, where a package has not made them."""
    from pyfix.system.account import by_name  # noqa: PLC0415 -- as above

    owner = by_name(conf.text("mail_owner")) if give_away else None
    root, data = conf.text("queue_directory"), conf.text("data_directory")
    for directory in (root, data):
        if not os.path.isdir(directory):
            os.makedirs(directory)
            os.chmod(directory, 0o755 if directory == root else 0o700)
            if owner:
                os.chown(directory, owner.uid, owner.gid)
    spool = Spool(root)
    spool.make_directories()
    if owner:
        for name in os.listdir(root):
            if os.lstat(f"{root}/{name}").st_uid == os.geteuid():
                os.chown(f"{root}/{name}", owner.uid, owner.gid, follow_symlinks=False)
    spool.close()


def _explain(units: UnitSet) -> None:
    for unit in units.units:
        sandbox, unknown = not_applied(unit)
        print(unit.name)
        if sandbox:
            print(f"  sandbox, not applied: {' '.join(sandbox)}")
        if unknown:
            print(f"  not known to pyfix up: {' '.join(unknown)}")


# -- status --


def _status(options: dict[str, list[str]], rest: list[str]) -> int:
    from pyfix.system.usage import is_running, usage  # noqa: PLC0415 -- psutil takes its time to load

    if rest:
        _wrong_arguments(f"unexpected argument {rest[0]!r}")
    runtime = _runtime(options)
    try:
        with open(f"{runtime}/{_STATE}", encoding="utf-8") as file:
            state = json.load(file)
    except FileNotFoundError:
        _say(f"pyfix up is not running in {runtime}")
        return 1
    if not is_running(state["pid"]):
        _say(f"pyfix up was killed: its process {state['pid']} is gone")
        return 1
    rows = [("UNIT", "STATE", "PID", "PROCESSES", "MEMORY", "CONNECTIONS", "RESTARTS", "STATUS")]
    for name, unit in sorted(state["units"].items()):
        used = usage(unit["pid"], sum(s.startswith("/") for s in unit["sockets"])) if unit["pid"] else None
        shown = unit["state"] if unit["state"] != "failed" else f"failed ({unit['result']})"
        numbers = (
            (str(unit["pid"]), str(used.processes), f"{used.memory / 1048576:.1f} MiB", str(used.connections))
            if used
            else ("-", "-", "-", "-")
        )
        rows.append((name.removesuffix(".service"), shown, *numbers, str(unit["restarts"]), unit["status"]))
    _print_table(rows)
    print(f"\nQueue: {_queue_counts(_config(options))}")
    return 0


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(" ")
        print(_coloured(line, _colour_of(row[1])))


def _colour_of(state: str) -> str:
    if state.startswith("failed"):
        return "31"
    return {"STATE": "1", "active": "32", "waiting": "33", "stopping": "33", "clearing": "33"}.get(state, "")


def _coloured(text: str, colour: str) -> str:
    return f"\033[{colour}m{text}\033[0m" if colour and sys.stdout.isatty() else text


def _queue_counts(conf: Config) -> str:
    try:
        spool = Spool(conf.text("queue_directory"), conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
        try:
            counts = inspection.counts(spool)
        finally:
            spool.close()
    except PermissionError:
        return "only its owner and root may look at it"
    return ", ".join(f"{count} {queue}" for queue, count in counts.items())


# -- check --


def _check(options: dict[str, list[str]], rest: list[str]) -> int:
    from pyfix.system import premises  # noqa: PLC0415 -- as above

    if rest:
        _wrong_arguments(f"unexpected argument {rest[0]!r}")
    conf, errors = None, []
    try:
        conf = _config(options)
        _check_config(conf)
    except ConfigError as error:
        conf = None
        errors.append(str(error))
    own_place = "--prefix" in options or not premises.on_systemd()
    if conf:
        for problem in conf.set_but_unimplemented():
            _report("warning", str(problem))
        errors += _wrong_queue(conf, own_place=own_place)
    if not own_place:
        errors += _wrong_machine(conf)
    lacking = _lacking_space(conf) if conf else []
    for message in (*errors, *lacking):
        _report("error", message)
    if errors:
        return 1
    return os.EX_TEMPFAIL if lacking else 0


def _report(kind: str, message: str) -> None:
    """Says what the check found; the journal is told how bad it is."""
    level = {"error": "<3>", "warning": "<4>"}[kind] if "JOURNAL_STREAM" in os.environ else ""
    print(f"{level}pyfix: {kind}: {message}", file=sys.stderr, flush=True)


def _wrong_queue(conf: Config, *, own_place: bool) -> list[str]:
    from pyfix.system.account import by_name  # noqa: PLC0415 -- as above

    root, owner = conf.text("queue_directory"), by_name(conf.text("mail_owner"))
    if own_place and owner is None:
        _report("warning", f"there is no user {conf.text('mail_owner')} (mail_owner)")
    try:
        errors = inspection.problems(root, owner.uid if owner else None)
    except PermissionError as error:
        return [f"{error.filename}: permission denied: only its owner and root may look at it"]
    if not own_place and root == Places().spool:
        return [f'{message}: "systemd-tmpfiles --create pyfix.conf" mends it' for message in errors]
    return errors


def _wrong_machine(conf: Config | None) -> list[str]:
    """What systemd needs to run the roles."""
    from pyfix.system import premises  # noqa: PLC0415 -- as above
    from pyfix.system.launch import arrange  # noqa: PLC0415

    arranged = arrange("", (), os.environ)
    errors = [
        *premises.missing_accounts(conf.text("mail_owner") if conf else "pyfix"),
        *(premises.unreadable(arranged.places.configuration) if conf else ()),
        *premises.missing_roots(),
        *premises.missing_modules(),
    ]
    try:
        sockets = load_units(arranged.unit_directories, arranged.places).sockets
    except UnitError as error:
        return [*errors, str(error)]
    paths = [address for unit in sockets for address in unit.listen]
    errors += premises.missing_sockets(arranged.places.runtime, paths)
    errors += premises.silent_sockets({unit.name: unit.listen for unit in sockets})
    return errors or premises.failed_units()


def _lacking_space(conf: Config) -> list[str]:
    from pyfix.intake import settings as intake  # noqa: PLC0415 -- as above

    root = conf.text("queue_directory")
    needed = intake.read_settings(conf).space_needed
    try:
        status = os.statvfs(root)
    except OSError:
        return []  # what is wrong with it has been said
    free = status.f_bavail * status.f_frsize
    if free >= needed:
        return []
    floor = f"no mail is taken below {needed} (queue_minfree, message_size_limit)"
    return [f"{root}: {free} bytes are free, and {floor}: make room; nothing else is needed then"]


def _check_config(conf: Config) -> None:
    """Reads main.cf as every role would. Raises ConfigError."""
    from pyfix.access import client_lists, restriction, session_settings  # noqa: PLC0415 -- as above
    from pyfix.outbound import destination  # noqa: PLC0415
    from pyfix.outbound import settings as outbound  # noqa: PLC0415
    from pyfix.rewriting import settings as rewriting  # noqa: PLC0415
    from pyfix.schedule import parameters  # noqa: PLC0415
    from pyfix.system.configuration import own_addresses  # noqa: PLC0415

    conf.check()
    own = own_addresses(conf)
    session_settings.read_settings(conf)
    restriction.RecipientPolicy(conf)
    client_lists.ClientLists(conf, own)
    rewriting.read_resolver(conf, own)
    parameters.Parameters(conf)
    try:
        outbound.read_settings(conf, own)
    except destination.DestinationError as error:
        raise conf.error("smtp_tcp_port", str(error)) from None


# -- trace, top --


def _trace(options: dict[str, list[str]], rest: list[str]) -> int:
    from pyfix.commands._trace import find_source, is_subject, trace, trace_lines  # noqa: PLC0415 -- as above

    if len(rest) != 1 or not is_subject(rest[0]):
        _wrong_arguments("one queue ID or address is needed")
    source = find_source(_log_files(options))
    if source is None:
        return _no_log()
    if "--lines" in options:
        found = trace_lines(rest[0], source.log)
    else:
        found = trace(rest[0], source.log, _config_for_trace(options), whole="--all" in options)
    if found:
        return 0
    _say(f"no trace of {rest[0]} in {source.name}")
    if source.hint:
        _say(f"hint: {source.hint}")
    return 1


def _config_for_trace(options: dict[str, list[str]]) -> Config | None:
    """None where the queue cannot be found, and where it need not be the log's: a file may be another machine's."""
    if "--log" in options and "--prefix" not in options:
        return None
    try:
        return _config(options)
    except ConfigError as error:
        _report("warning", str(error))
        return None


def _log_files(options: dict[str, list[str]]) -> list[str]:
    """The log files that are asked for, the first that is not empty counts."""
    prefix = _prefix(options)
    return [*options.get("--log", []), f"{prefix}/log" if prefix else os.environ.get("PYFIX_LOG", "")]


def _no_log() -> int:
    _say("error: there is no journal and no log file; name one with --log or PYFIX_LOG")
    return 1


def _top(options: dict[str, list[str]], rest: list[str]) -> int:
    from pyfix.commands._top import top  # noqa: PLC0415 -- as above

    if rest:
        _wrong_arguments(f"unexpected argument {rest[0]!r}")
    return top(_config(options), _runtime(options), _log_files(options), once="--once" in options)


if __name__ == "__main__":
    main()

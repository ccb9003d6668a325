"""What pyfix needs to find on a machine: an account, readable files, directories, packages, sockets that listen.

Each function gives the sentences on what is missing, with what to do about it; none when nothing is.
"""

import importlib.util
import os
import subprocess
from collections.abc import Iterable, Sequence

from pyfix.system.account import by_name, group_line

ROOTS = "/usr/lib/pyfix/root"
"""A directory for each role, which is its root in its unit's sandbox."""

_ROLES = "/usr/libexec/pyfix"
_MODULES = {"dns": "dnspython", "lmdb": "lmdb", "msgspec": "msgspec", "psutil": "psutil", "systemd": "systemd"}
"""What roles and commands import that is no part of Python, and the name of the package."""


def on_systemd() -> bool:
    """Whether systemd runs this machine."""
    return os.path.isdir("/run/systemd/system")


def missing_accounts(owner: str) -> list[str]:
    """The queue's owner, and the group of those who may call roles."""
    mend = 'is missing: "systemd-sysusers pyfix.conf", then "systemctl stop pyfix", "systemctl start pyfix"'
    found = [] if by_name(owner) else [f"the user {owner} (mail_owner) {mend}"]
    return found if group_line(owner) else [*found, f"the group {owner} {mend}"]


def unreadable(directory: str) -> list[str]:
    """A configuration that roles cannot read: most have users of their own, who are in no group of its owner's."""
    found = []
    for path, wanted in ((directory, 0o5), (os.path.join(directory, "main.cf"), 0o4)):
        try:
            mode = os.stat(path).st_mode & 0o777
        except OSError:
            continue  # a main.cf need not exist; what else is wrong, who reads it says
        if mode & wanted != wanted:
            found.append(
                f"{path} can be read by its owner only (mode {mode:04o}), and roles run as other users: "
                f'"chmod {mode | wanted * 0o11:o} {path}"'
            )
    return found


def missing_roots() -> list[str]:
    """The directories that become the roles' roots."""
    roles = sorted(os.listdir(_ROLES)) if os.path.isdir(_ROLES) else []
    paths = [path for role in roles if _is_missing(path := os.path.join(ROOTS, role))]
    return [f'{path} is missing: "install -d {path}", or install the package again' for path in paths]


def missing_modules() -> list[str]:
    """Python modules that are not installed."""
    return [
        f'the Python module {name} is missing: install python3-{package}, then "systemctl restart pyfix"'
        for name, package in _MODULES.items()
        if importlib.util.find_spec(name) is None
    ]


def missing_sockets(runtime: str, listen: Iterable[str]) -> list[str]:
    """Paths on which systemd listens, and their directories, which are in ``runtime``."""
    directories = {os.path.dirname(path): path for path in listen if path.startswith("/")}
    lost = [runtime] if _is_missing(runtime) else [directory for directory in directories if _is_missing(directory)]
    again = '"systemctl stop pyfix", "systemctl start pyfix"'
    if not lost and is_active("pyfix-listen.target"):
        return [f"the socket {path} is missing: {again}" for path in directories.values() if _is_missing(path)]
    return [f'{path} is missing: "systemd-tmpfiles --create pyfix.conf", then {again}' for path in lost]


def silent_sockets(listen: dict[str, Sequence[str]]) -> list[str]:
    """Units of sockets, by name, that failed."""
    return [
        f"{name} does not listen on {' and '.join(addresses)}: another program does, it seems "
        f'("ss --listening --processes" shows which); end that, then "systemctl restart pyfix"'
        for name, addresses in listen.items()
        if _show(name, "Result") == "resources"
    ]


def failed_units() -> list[str]:
    """Units that failed for reasons that they know themselves."""
    done = _systemctl("list-units", "--state=failed", "--plain", "--no-legend", "pyfix-*")
    names = [line.split()[0] for line in done.splitlines() if line]
    return [f'{name} failed ({_show(name, "Result")}): "systemctl status {name}" says why' for name in names]


def is_active(unit: str) -> bool:
    """Whether a unit runs."""
    return _show(unit, "ActiveState") == "active"


def _is_missing(path: str) -> bool:
    """Whether it is certainly not there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    return False


def _show(unit: str, name: str) -> str:
    return _systemctl("show", f"--property={name}", "--value", unit).strip()


def _systemctl(*words: str) -> str:
    """What systemctl prints; nothing where systemd cannot be asked."""
    command = ("/usr/bin/systemctl", *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603 -- unit names
    return done.stdout

"""What ``pyfix up`` arranges before it supervises: places, environment, programs, its lock, the background.

In a checkout a role is run by the Python that runs ``pyfix up``, from the checkout's modules; where pyfix is installed,
by the launcher that the unit names.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from pyfix.system.unit_files import Places

_LAUNCHERS = {"/usr/libexec/pyfix": "roles", "/usr/sbin": "commands"}
_INSTALLED_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
_PACKAGED_UNITS = ("/usr/lib/systemd/system", "/lib/systemd/system")
_KEPT = ("LANG", "LC_ALL", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Arrangement(NamedTuple):
    """Where things are, and what every role finds in its environment."""

    places: Places
    unit_directories: tuple[str, ...]
    environment: Mapping[str, str]


def checkout() -> str:
    """The directory of the source tree that this module runs from; empty where pyfix is installed."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return root if os.path.isfile(f"{root}/pyproject.toml") and os.path.isdir(f"{root}/units") else ""


def arrange(prefix: str, unit_directories: Sequence[str], given: Mapping[str, str]) -> Arrangement:
    """The arrangement for a prefix (empty for none) in the environment ``given``."""
    if prefix:
        prefix = os.path.abspath(prefix)
        places = Places.below(prefix)
    else:
        configuration = given.get("MAIL_CONFIG") or Places().configuration
        places = Places()._replace(runtime=given.get("PYFIX_RUNTIME") or Places().runtime, configuration=configuration)
    environment = {name: given[name] for name in _KEPT if name in given}
    environment |= {"PATH": _PATH, "MAIL_CONFIG": places.configuration, "PYFIX_RUNTIME": places.runtime}
    if log := given.get("PYFIX_LOG") or (f"{prefix}/log" if prefix else ""):
        environment["PYFIX_LOG"] = log
    root = checkout()
    if root:
        environment["PYTHONPATH"] = root
    own = [f"{prefix}/etc/systemd"] if prefix else []
    standing = [f"{root}/units"] if root else [*_INSTALLED_UNITS, *_PACKAGED_UNITS]
    return Arrangement(places, (*map(os.path.abspath, unit_directories), *own, *standing), environment)


def role_command(argv: tuple[str, ...]) -> tuple[str, ...]:
    """How a unit's command is executed."""
    directory, _, name = argv[0].rpartition("/")
    if directory not in _LAUNCHERS or not name.isidentifier() or not checkout():
        return argv
    program = f"from pyfix.{_LAUNCHERS[directory]}.{name} import main; main()"
    return (sys.executable, "-P", "-c", program, *argv[1:])


class AlreadyRunning(Exception):
    """Another ``pyfix up`` holds the lock; the text is its process ID."""


class PidFile:
    """A file with the supervisor's process ID, locked as long as it runs; it stays when the supervisor is gone."""

    def __init__(self, path: str) -> None:
        """Takes the lock; raises AlreadyRunning, OSError."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self.descriptor, 20).decode("ascii", "replace").strip("\n")
            os.close(self.descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise AlreadyRunning(holder) from None
            raise

    def write(self) -> None:
        """Writes this process's ID into it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def remove(self) -> None:
        """Removes the file, and gives the lock up."""
        os.unlink(self._path)
        os.close(self.descriptor)


def detach(pid_file: PidFile, output: str, work: Callable[[Callable[[], None]], int]) -> NoReturn:
    """Runs ``work`` in the background, and ends this process when it has called what it is given, or has ended.

    Standard output and error go to the file ``output``. The exit status is 0 when the work is under way.
    """
    from daemon import DaemonContext  # noqa: PLC0415 -- only a daemon pays for it

    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        began = os.read(read_end, 1)
        if not began:
            os.write(2, f"pyfix: it did not start: see {output}\n".encode("utf-8", "backslashreplace"))
        os._exit(0 if began else 1)
    os.close(read_end)
    with open(output, "ab", buffering=0) as log:
        context: Any = DaemonContext(
            files_preserve=[write_end, pid_file.descriptor], stdout=log, stderr=log, umask=0o022
        )
        with context:
            os._exit(work(lambda: _report(write_end)))


def _report(write_end: int) -> None:
    """Tells the process that waits that all is well; only once."""
    os.write(write_end, b"\0")
    os.close(write_end)

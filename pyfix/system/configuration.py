"""The configuration of this machine: main.cf from its directory, and what the machine itself adds to it."""

import errno
import fcntl
import os

from pyfix.conf.config import Config
from pyfix.conf.error import ConfigError
from pyfix.conf.main_cf import MAX_BYTES, WHITE_SPACE, Assignment, parse

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyfix.conf.networks import Interface

DEFAULT_DIRECTORY = "/etc/pyfix"
_MAX_LINE = 1024
COMMAND_LINE = "command line"
"""The file that an ``-o name=value`` is said to come from."""


def load_config(overrides: "Sequence[tuple[str, str]]" = ()) -> Config:
    """The configuration in the directory $MAIL_CONFIG, else /etc/pyfix; ConfigError when main.cf cannot be read.

    ``overrides`` are the ``-o`` options; they win over main.cf. Without a main.cf every parameter has its default.
    """
    return load_config_from(os.environ.get("MAIL_CONFIG") or DEFAULT_DIRECTORY, overrides)


def load_config_from(directory: str, overrides: "Sequence[tuple[str, str]]" = ()) -> Config:
    """As :func:`load_config`, from a given directory."""
    assignments = read_assignments(directory)
    assignments += [Assignment(name, value, COMMAND_LINE, 0) for name, value in overrides]
    return make_config(directory, assignments)


def read_assignments(directory: str) -> list[Assignment]:
    """The assignments of the directory's main.cf, in order."""
    path = os.path.join(directory, "main.cf")
    return parse(read_main_cf(path), path)


def make_config(directory: str, assignments: "Sequence[Assignment]") -> Config:
    """A configuration of these assignments on this machine."""
    return Config(directory, assignments, _facts(directory), _first_line)


def read_main_cf(path: str) -> bytes:
    """The file's content, no more than one byte beyond what is accepted; empty when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except PermissionError:
        hint = f'roles run as users of their own, who must be able to read it: "chmod 644 {path}"'
        raise ConfigError("permission denied", file=path, hint=hint) from None
    except OSError as error:
        raise ConfigError(error.strerror or "cannot be read", file=path) from None


def replace_main_cf(path: str, change: "Callable[[bytes], bytes]") -> None:
    """Puts what ``change`` makes of a main.cf in its place, at once and durably; OSError when that fails.

    The file keeps its mode and its owner. A lock keeps a second change from being lost; the file may be missing.
    """
    with open(path + ".tmp", "ab") as new:
        fcntl.flock(new, fcntl.LOCK_EX)
        if not _is_same(new.fileno(), path + ".tmp"):
            raise OSError(errno.EBUSY, "another process is changing the file", path)
        new.truncate(0)
        try:
            new.write(change(read_main_cf(path)))
            new.flush()
            _copy_rights(path, new.fileno())
            os.fsync(new.fileno())
            os.rename(path + ".tmp", path)
        except BaseException:
            os.unlink(path + ".tmp")
            raise
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_same(descriptor: int, path: str) -> bool:
    """Whether the path still names the open file: another process may have renamed it before the lock was free."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _copy_rights(path: str, descriptor: int) -> None:
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)
        return
    if os.geteuid() == 0:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


def _first_line(path: str) -> str:
    """The first line of a file such as /etc/mailname; ConfigError when there is none."""
    try:
        with open(path, "rb") as file:
            line = file.readline(_MAX_LINE)
    except OSError as error:
        raise ConfigError(error.strerror or "cannot be read", file=path, parameter="myorigin") from None
    try:
        text = line.decode().strip(WHITE_SPACE + "\n")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise ConfigError("the first line is no domain", file=path, line=1, parameter="myorigin")
    return text


def own_addresses(conf: Config) -> tuple[str, ...]:
    """The addresses on which this system receives mail: inet_interfaces and proxy_interfaces."""
    own = [interface.address for interface in _own(conf)]
    return tuple(dict.fromkeys([*own, *(address for name in conf.words("proxy_interfaces") for address in _of(name))]))


def _own(conf: Config) -> "tuple[Interface, ...]":
    # Few programs need these; the rest start sooner without them.
    from pyfix.conf.networks import own_interfaces  # noqa: PLC0415
    from pyfix.system.interfaces import addresses_of, interfaces  # noqa: PLC0415

    return own_interfaces(conf.words("inet_interfaces"), conf.words("inet_protocols"), interfaces(), addresses_of)


def _of(name: str) -> "Sequence[str]":
    from pyfix.system.interfaces import addresses_of  # noqa: PLC0415  as above

    return addresses_of(name.removeprefix("[").removesuffix("]"))


def _trusted(conf: Config) -> str:
    from pyfix.conf.networks import trusted_networks  # noqa: PLC0415  as above

    return " ".join(trusted_networks(conf.text("mynetworks_style"), _own(conf)))


def _facts(directory: str) -> "dict[str, Callable[[Config], str]]":
    return {
        "config_directory": lambda _conf: directory,
        "mydomain": _domain,
        "myhostname": _host_name,
        "mynetworks": _trusted,
        "process_id": lambda _conf: str(os.getpid()),
    }


def _host_name(conf: Config) -> str:
    """The machine's name; with a domain, as every mail host's name must have one."""
    name = os.uname().nodename or "localhost"
    if "." in name.strip("."):
        return name
    domain = conf.text("mydomain") if conf.is_set("mydomain") else "localdomain"
    return f"{name}.{domain}"


def _domain(conf: Config) -> str:
    """What follows the first dot of myhostname."""
    return conf.text("myhostname").partition(".")[2] or "localdomain"

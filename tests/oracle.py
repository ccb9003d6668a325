"""A real Postfix beside the one under test: Debian's package, unpacked into a cache and never installed.

``unpack`` needs neither root nor anything but the Debian mirror. ``Postfix`` is an instance with its own
configuration and queue below a temporary directory; as root it can be started, without chroot and without port 25.
``chroot_tree`` is a whole Debian 13 with Postfix in it, for what must be compared with that very version.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pyfix.spool.directories import ALL_DIRECTORIES

CHECKOUT = Path(__file__).parent.parent

# Accounts that every Debian has. Postfix refuses root, and wants the group to be nobody else's.
OWNER, GROUP = "daemon", "games"

_SERVICES = """\
pickup     unix  n  -  n  60  1  pickup
cleanup    unix  n  -  n  -   0  cleanup
qmgr       unix  n  -  n  300 1  qmgr
tlsmgr     unix  -  -  n  -   1  tlsmgr
rewrite    unix  -  -  n  -   -  trivial-rewrite
bounce     unix  -  -  n  -   0  bounce
defer      unix  -  -  n  -   0  bounce
trace      unix  -  -  n  -   0  bounce
verify     unix  -  -  n  -   1  verify
flush      unix  n  -  n  -   0  flush
proxymap   unix  -  -  n  -   -  proxymap
smtp       unix  -  -  n  -   -  smtp
relay      unix  -  -  n  -   -  smtp
showq      unix  n  -  n  -   -  showq
error      unix  -  -  n  -   -  error
retry      unix  -  -  n  -   -  error
discard    unix  -  -  n  -   -  discard
anvil      unix  -  -  n  -   1  anvil
postlog    unix-dgram n - n - 1  postlogd
"""


class Missing(Exception):
    """There is no oracle on this machine, and why."""


def cache_directory() -> Path:
    """Where unpacked packages are kept: $PYFIX_CACHE, /var/cache/pyfix, or the checkout's build directory."""
    for candidate in (os.environ.get("PYFIX_CACHE"), "/var/cache/pyfix", CHECKOUT / "build/cache"):
        if candidate:
            path = Path(candidate)
            with contextlib.suppress(OSError):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o755)
            if os.access(path, os.W_OK):
                return path
    raise Missing("no directory to keep Debian's Postfix in; set PYFIX_CACHE")


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@cache
def unpack() -> Path:
    """This Debian's own postfix package as a directory tree, with the libraries that the machine lacks."""
    if not shutil.which("apt-get"):
        raise Missing("no apt-get: Debian's Postfix can be had on Debian only")
    policy = _run("apt-cache", "policy", "postfix")
    version = re.search(r"Candidate: (\S+)", policy)
    if not version or version[1] == "(none)":
        raise Missing("apt knows no package postfix; run apt-get update")
    tree = cache_directory() / f"postfix_{version[1].replace(':', '_')}"
    if not tree.exists():
        part = Path(tempfile.mkdtemp(prefix="part-", dir=tree.parent))
        part.chmod(0o755)
        _fetch(["postfix"], part)
        if _lacks_libraries(part):
            _fetch(_libraries_of("postfix"), part)
        # Another test run may have been faster.
        with contextlib.suppress(OSError):
            part.rename(tree)
        shutil.rmtree(part, ignore_errors=True)
    return tree


def _fetch(packages: Sequence[str], tree: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _run("apt-get", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=Path(directory))
        for package in Path(directory).glob("*.deb"):
            _run("dpkg", "-x", str(package), str(tree))


def _lacks_libraries(tree: Path) -> bool:
    binaries = [*(tree / "usr/sbin").glob("post*"), *(tree / "usr/lib/postfix/sbin").glob("*")]
    output = subprocess.run(
        ["ldd", *map(str, binaries)], env=_environment(tree), capture_output=True, text=True, check=False
    )
    return "not found" in output.stdout


def _libraries_of(package: str) -> list[str]:
    listing = _run(
        "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
        "--no-replaces", "--no-enhances", package,
    )  # fmt: skip
    return [name for name in listing.split("\n") if re.fullmatch(r"lib[a-z0-9.+-]+", name)]


def _environment(tree: Path) -> dict[str, str]:
    libraries = [tree / "usr/lib/postfix", *(tree / "usr/lib").glob("*-linux-gnu*"), *(tree / "lib").glob("*-linux-*")]
    return {"PATH": os.environ["PATH"], "TZ": "UTC", "LD_LIBRARY_PATH": ":".join(map(str, libraries))}


class Postfix:
    """An instance of Postfix: ``conf`` is its configuration directory, ``spool`` its queue directory.

    The directory must be one that every user may enter. ``settings`` go to main.cf, ``services`` to master.cf.
    """

    def __init__(self, directory: Path, settings: dict[str, str] | None = None, services: str = "") -> None:
        self.tree = unpack()
        self.conf, self.spool, self.log = directory / "conf", directory / "spool", directory / "log"
        self.data = directory / "data"
        for path in (self.conf, self.spool, self.data):
            path.mkdir(parents=True)
        libraries = self.tree / "usr/lib/postfix"
        main = {
            "compatibility_level": "3.6",
            "command_directory": f"{self.tree}/usr/sbin",
            "daemon_directory": f"{libraries}/sbin",
            "shlib_directory": f"{libraries}",
            "meta_directory": f"{self.tree}/etc/postfix",
            "data_directory": f"{self.data}",
            "queue_directory": f"{self.spool}",
            "mail_owner": OWNER,
            "setgid_group": GROUP,
            "myhostname": "oracle.example",
            "myorigin": "oracle.example",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "default_transport": "retry:4.3.0 test deferral",
            "enable_long_queue_ids": "yes",
            "maillog_file": f"{self.log}",
            "maillog_file_prefixes": f"{directory}",
            "import_environment": "MAIL_CONFIG TZ LD_LIBRARY_PATH MAIL_LOGTAG",
            "export_environment": "MAIL_CONFIG TZ LD_LIBRARY_PATH",
            **(settings or {}),
        }
        (self.conf / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
        (self.conf / "master.cf").write_text(_SERVICES + services)
        for path in self.conf.iterdir():
            # Postfix waits for a configuration file that may still be under an editor: one written just now.
            os.utime(path, (1_000_000_000, 1_000_000_000))
        if os.geteuid() == 0:
            self._make_queue()

    def _make_queue(self) -> None:
        for name in (*ALL_DIRECTORIES, "private"):
            (self.spool / name).mkdir(mode=0o700)
            shutil.chown(self.spool / name, OWNER)
        (self.spool / "pid").mkdir()
        (self.spool / "public").mkdir(mode=0o710)
        shutil.chown(self.spool / "public", OWNER, GROUP)
        shutil.chown(self.spool / "maildrop", OWNER, GROUP)
        (self.spool / "maildrop").chmod(0o730)
        shutil.chown(self.data, OWNER)
        self.log.touch()
        shutil.chown(self.log, OWNER, OWNER)

    def own(self) -> None:
        """Give all queue files, and what they lie in, to Postfix's user."""
        for path in self.spool.rglob("*"):
            if path.relative_to(self.spool).parts[0] not in ("pid", "public") and path.name != "maildrop":
                shutil.chown(path, OWNER, OWNER)

    def environment(self) -> dict[str, str]:
        """What Postfix's programs need to be found in the environment."""
        return {**_environment(self.tree), "MAIL_CONFIG": str(self.conf)}

    def run(self, command: str, *arguments: str, data: bytes = b"", cwd: Path | None = None) -> bytes:
        """Run a command of Postfix, which must exit with 0; its standard output."""
        return self.attempt(command, *arguments, data=data, cwd=cwd, check=True).stdout

    def attempt(
        self,
        command: str,
        *arguments: str,
        data: bytes = b"",
        cwd: Path | None = None,
        check: bool = False,
        name: str = "",
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of Postfix, whatever its exit status; ``data`` is a file for it, not a pipe.

        ``name`` is the name that it is called by, if it is another one.
        """
        with tempfile.TemporaryFile() as standard_input:
            standard_input.write(data)
            standard_input.seek(0)
            ended = subprocess.run(
                [name or command, *arguments],
                executable=f"{self.tree}/usr/sbin/{command}", stdin=standard_input, cwd=cwd, env=self.environment(),
                check=False, capture_output=True, timeout=60,
            )  # fmt: skip
        assert not check or ended.returncode == 0, f"exit status {ended.returncode}: {ended.stderr.decode()}"
        return ended

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Run the mail system meanwhile; needs root."""
        master = subprocess.Popen(
            [f"{self.tree}/usr/lib/postfix/sbin/master", "-d"],
            env=self.environment(), stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            self.wait_for(lambda: "daemon started" in self.log_text())
            yield
        finally:
            master.send_signal(signal.SIGTERM)
            master.wait(30)
            # It does not wait for its children, which go on with what is in the queue.
            self.wait_for(lambda: not _is_there(master.pid))

    def log_text(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, condition, seconds: float = 30) -> None:
        """Wait until the condition holds; fails with the log when it does not come to pass."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"in vain; Postfix's log:\n{self.log_text()}"
            time.sleep(0.02)

    def files(self, *queues: str) -> list[Path]:
        """The queue files in these queues."""
        return sorted(path for queue in queues for path in (self.spool / queue).rglob("*") if path.is_file())


def _is_there(group: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def chroot_tree() -> Path:
    """A Debian 13 with Postfix, to be copied before it is changed; built when there is none, which needs root."""
    tree = cache_directory() / "oracle"
    if tree.exists():
        return tree
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise Missing(f"no {tree}, and building it needs root and debootstrap")
    part = Path(tempfile.mkdtemp(prefix="part-", dir=tree.parent))
    part.chmod(0o755)
    _run("debootstrap", "--variant=minbase", "trixie", str(part))
    (part / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (part / "usr/sbin/policy-rc.d").chmod(0o755)
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postfix postfix-lmdb"
    _run("chroot", str(part), "sh", "-c", install)
    part.rename(tree)
    return tree

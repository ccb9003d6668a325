"""A Debian 13 machine with a real systemd, in systemd-nspawn: boots in a second, thrown away afterwards.

A machine is an overlay over a cached tree. Its network is its own; machines that share a Network see each other.
"""

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from machine.tree import CACHE

_numbers = itertools.count(1)


class CommandError(AssertionError):
    """A command in the machine ended with another status than 0."""


class Network:
    """A bridge in a namespace of its own; machines are given a name and an address on it."""

    def __init__(self, prefix="10.77.0"):
        self.prefix = prefix
        self.name = f"pyfix-net{os.getpid()}-{next(_numbers)}"
        self.gateway = f"{prefix}.1"
        self._hosts = itertools.count(2)
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.name, "addr", "add", f"{self.gateway}/24", "dev", "bridge")
        _ip("-n", self.name, "link", "set", "bridge", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def attach(self, namespace):
        """Joins a namespace to the bridge; its address."""
        number = next(self._hosts)
        port = f"port{number}"
        _ip("-n", self.name, "link", "add", port, "type", "veth", "peer", "name", "host0", "netns", namespace)
        _ip("-n", self.name, "link", "set", port, "master", "bridge", "up")
        address = f"{self.prefix}.{number}"
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "host0")
        _ip("-n", namespace, "link", "set", "host0", "up")
        _ip("-n", namespace, "route", "add", "default", "via", self.gateway)
        return address

    def close(self):
        _ip("netns", "del", self.name)


class Machine:
    """A machine; boots when entered. ``tree`` is a directory, or several with ``:`` between, the uppermost first.

    ``directory`` is where its own files are; ``beside`` are places in the machine that lie there without an overlay.
    """

    def __init__(self, tree, name="mail", network=None, binds=(), directory=CACHE, beside=()):
        self.name = name
        # (directory here, directory there) pairs, read-only
        self._binds = [f"--bind-ro={here}:{there}" for here, there in binds]
        self._tree = tree
        self._beside = beside
        self._network = network
        self._directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))
        self.root = self._directory / "root"
        self._namespace = f"pyfix-{os.getpid()}-{next(_numbers)}"
        # Of its own: systemd in two machines would otherwise make, kill and remove the same control groups.
        self._control_group = _control_groups() / self._namespace
        self.address = ""
        self._console = None
        self._nspawn = None
        self.pid = 0

    def __enter__(self):
        try:
            self._prepare()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self):
        self._control_group.mkdir()
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "set", "lo", "up")
        # What systemd sets where it is not in a container: with the kernel's 10, writers wait for journald.
        _ip("netns", "exec", self._namespace, "sysctl", "-qw", "net.unix.max_dgram_qlen=512")
        if self._network:
            self.address = self._network.attach(self._namespace)
        for part in ("upper", "work", "root"):
            (self._directory / part).mkdir()
        options = f"lowerdir={self._tree},upperdir={self._directory}/upper,workdir={self._directory}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        for number, place in enumerate(self._beside):
            there, here = self.root / place.lstrip("/"), self._directory / f"beside{number}"
            subprocess.run(["cp", "-a", there, here], check=True)
            subprocess.run(["mount", "--bind", here, there], check=True)
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost ip6-localhost\n")
        # Nobody answers there, which is found out at once, until a test has a DNS server.
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)

    def __exit__(self, *_):
        self.power_off()
        _ip("netns", "del", self._namespace)
        if self.root.is_mount():
            subprocess.run(["umount", "--recursive", self.root], check=True)
        for group, _, _ in os.walk(self._control_group, topdown=False):
            os.rmdir(group)
        shutil.rmtree(self._directory)

    def image(self):
        """Ends the machine for good; a tree like it, for others to boot from until the context ends."""
        self.power_off()
        subprocess.run(["umount", self.root], check=True)
        return f"{self._directory}/upper:{self._tree}"

    def boot(self):
        """Boots and waits until systemd has started all it wants to."""
        self._console = (self._directory / "console").open("wb")
        join = f'echo $$ >{self._control_group}/cgroup.procs; exec "$@"'
        command = ["/bin/sh", "-c", join, "sh", "systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot",
                   "--directory", self.root, f"--machine={self.name}",
                   f"--network-namespace-path=/run/netns/{self._namespace}", "--link-journal=no", "--console=pipe",
                   "--resolv-conf=off",
                   # What --private-network would add: units have networks of their own.
                   "--capability=CAP_NET_ADMIN", *self._binds]  # fmt: skip
        self._nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._console, stderr=subprocess.STDOUT,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )  # fmt: skip
        self.wait_until(self._leader, "systemd")
        self.wait_until(
            lambda: self.run("systemctl is-system-running", check=False).stdout.strip() in {"running", "degraded"},
            "the end of the boot",
        )

    def power_off(self):
        """Ends the machine; its files stay until the context ends."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self._nspawn.wait()
        self._console.close()

    def _leader(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._nspawn.pid).children():
                if child.name() == "systemd":
                    self.pid = child.pid
                    return True
        return False

    def enter(self):
        """The command line that gets a person or a program into the machine."""
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]

    def run(self, command, *, check=True, timeout=120, **options):
        """Runs a shell command, or a list of words, as root in the machine."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                       "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}  # fmt: skip
        options = {"capture_output": True, "text": True, "stdin": None} | options
        if "input" in options:
            del options["stdin"]
        done = subprocess.run([*self.enter(), *words], env=environment, timeout=timeout, **options)
        if check and done.returncode:
            raise CommandError(f"{shlex.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(self, command, **options):
        """Starts a command in the machine and does not wait for it."""
        return subprocess.Popen([*self.enter(), *command], **options)

    def python(self, source, *arguments, **options):
        """Runs a Python program in the machine."""
        return self.run(["/usr/bin/python3", "-c", source, *arguments], **options)

    def install(self, *debs):
        """Installs .deb files of this machine's with apt."""
        for deb in debs:
            shutil.copy(deb, self.root / "var/tmp" / Path(deb).name)
        names = " ".join(f"/var/tmp/{Path(deb).name}" for deb in debs)
        return self.run(
            f"apt-get install -y -q --no-install-recommends --reinstall --allow-downgrades {names}", timeout=300
        )

    def write(self, path, text):
        """Writes a file in the machine."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def read(self, path):
        """A file of the machine."""
        return self.run(["cat", path]).stdout

    def journal(self, *arguments):
        """Journal entries as dictionaries."""
        out = self.run(["journalctl", "--no-pager", "-o", "json", *arguments]).stdout
        return [json.loads(line) for line in out.splitlines()]

    def cursor(self):
        """The journal's end, for ``--after-cursor=``."""
        return self.journal("-n", "1")[0]["__CURSOR"]

    def main_pid(self, unit):
        """The unit's main process, in the machine's numbers; 0 if it is not running."""
        return int(self.run(f"systemctl show -P MainPID {unit}").stdout)

    def kill(self, unit, name="KILL"):
        """Sends a signal to a unit's processes: KILL, STOP (freeze), CONT (thaw)."""
        self.run(f"systemctl kill --signal={name} {unit}", check=False)

    def cut_off(self):
        """Unplugs the network."""
        _ip("-n", self._namespace, "link", "set", "host0", "down")

    def plug_in(self):
        """Plugs the network in again."""
        _ip("-n", self._namespace, "link", "set", "host0", "up")

    def wait_until(self, condition, what, timeout=60):
        """Waits for a condition; its value."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if self._nspawn.poll() is not None:
                raise AssertionError(f"the machine ended:\n{self._console_text()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}\n{self._last_words()}")
            time.sleep(0.05)
        return value

    def _console_text(self):
        return (self._directory / "console").read_text(errors="replace")[-3000:]

    def _last_words(self):
        if not self.pid:
            return self._console_text()
        return self.run("journalctl --no-pager -n 60", check=False).stdout


def _control_groups():
    """Where the unified hierarchy is mounted; it is mounted here where this machine has no use for it."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    place = CACHE / "cgroup"
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", place], check=True)
    return place


def _ip(*words):
    subprocess.run(["ip", *words], check=True)

"""Debian trees for test machines: built once, kept in a cache outside the checkout, never changed afterwards.

A tree is named for what is in it, so that a changed list of packages makes a new one. $PYFIX_CACHE says where they are
kept; /var/cache/pyfix else. Building needs root and the Debian mirror that this machine uses.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("PYFIX_CACHE", "/var/cache/pyfix"))
SUITE = "trixie"
BASE = ("systemd", "systemd-sysv", "dbus", "iproute2", "python3", "procps", "ca-certificates")
POLICY = "#!/bin/sh\nexit 101\n"


def run_in(tree, *command, **options):
    """Runs a command in a tree, without its services starting."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["chroot", tree, *command], env=environment, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


@contextmanager
def _locked():
    """Two test runs at once build a tree once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base():
    """A Debian 13 tree with systemd and Python, apt ready to use."""
    path = CACHE / f"{SUITE}-{_digest(BASE)}"
    with _locked():
        if not path.exists():
            _debootstrap(path)
    return path


def with_packages(name, *packages, answers=""):
    """The base tree with packages from Debian installed; ``answers`` are debconf selections."""
    path = CACHE / f"{SUITE}-{name}-{_digest((*BASE, *packages, answers))}"
    below = base()
    with _locked():
        if not path.exists():
            part = path.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", below, part], check=True)
            if answers:
                run_in(part, "debconf-set-selections", input=answers)
            # Of apt's own settings, those that were copied from this machine stay.
            keep = ("-o", "Dpkg::Options::=--force-confold")
            run_in(part, "apt-get", "install", "-y", "-q", "--no-install-recommends", *keep, *packages)
            run_in(part, "apt-get", "clean")
            part.rename(path)
    return path


def _digest(names):
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


def _debootstrap(path):
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", SUITE, part]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"debootstrap failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    # apt in the tree reaches the mirror as apt on this machine does.
    for source in Path("/etc/apt/apt.conf.d").iterdir():
        shutil.copy(source, part / "etc/apt/apt.conf.d" / source.name)
    for name in ("resolv.conf", "hosts"):
        (part / "etc" / name).unlink(missing_ok=True)
        shutil.copy(f"/etc/{name}", part / "etc" / name)
    policy = part / "usr/sbin/policy-rc.d"
    policy.write_text(POLICY)
    policy.chmod(0o755)
    run_in(part, "apt-get", "update", "-q")
    part.rename(path)

"""The Debian package for test machines, built when the sources changed, and the tree that it is installed in."""

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from machine import tree as trees

ROOT = Path(__file__).parents[2]
CACHE = trees.CACHE / "packages"
_KEPT = 20

_spec = importlib.util.spec_from_file_location("build_packages", ROOT / "packaging/build.py")
packages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(packages)


def build(kind=packages.build_deb):
    """The package of these sources, of a kind: packages.build_deb, packages.build_rpm."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = CACHE / f"{_digest()}-{kind.__name__.removeprefix('build_')}"
        if not target.exists():
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            packages.build(kind, part)
            part.rename(target)
            _forget_old()
    (built,) = (*target.glob("*.deb"), *target.glob("*.rpm"))
    return built


def _forget_old():
    built = sorted((path for path in CACHE.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in built[:-_KEPT]:
        shutil.rmtree(path)


def newer(deb, directory, change=lambda _tree: None):
    """The same package with a higher version, for upgrades; ``change`` may change the unpacked package's tree."""
    version = f"{packages.version()}+next"
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "--raw-extract", deb, unpacked], check=True)
        control = Path(unpacked, "DEBIAN/control")
        control.write_text(control.read_text().replace(f"Version: {packages.version()}\n", f"Version: {version}\n"))
        change(Path(unpacked))
        target = Path(directory, f"pyfix_{version}_all.deb")
        subprocess.run(["dpkg-deb", "--build", "-Zgzip", unpacked, target], check=True, capture_output=True)
    return target


def tree(*more):
    """A Debian 13 tree with what the package depends on and recommends, and with ``more`` of Debian's packages."""
    return trees.with_packages("pyfix", *packages.control_list("Depends"), *packages.control_list("Recommends"), *more)


def _digest():
    found = hashlib.sha256()
    for name in packages.SOURCES:
        for path in sorted((ROOT / name).rglob("*")) if (ROOT / name).is_dir() else [ROOT / name]:
            if path.is_file() and path.parent.name != "__pycache__":
                found.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode:o}\0".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]

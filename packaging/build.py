"""``make deb`` and ``make rpm``: builds packages into build/.

usage: build.py deb|rpm

Packages are made for Debian 13. On another system, and where a build dependency is missing, the work is done in a
cached Debian 13 tree (tests/machine/tree.py), which needs root.
"""

import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from machine import tree  # noqa: E402 -- the tests know how a Debian tree is made

SOURCES = (
    "ARCHITECTURE.md",
    "LICENSE",
    "Makefile",
    "NEWS.md",
    "README.md",
    "docs",
    "man",
    "packaging",
    "pyfix",
    "units",
)
TOOLS = ("dpkg-dev", "lintian", "rpm", "rpmlint")

# The work directory is seen in the tree, for this command alone.
IN_TREE = """
set -e
mount --bind "$1" "$2/mnt"
mount -t proc proc "$2/proc"
tree=$2 where=$3
shift 3
exec chroot "$tree" /bin/sh -c 'cd "/mnt/$0" && exec "$@"' "$where" "$@"
"""

Run = Callable[..., None]
"""Runs a command: where, below the work directory, and its words."""


def copy_sources(target: Path) -> None:
    """A copy of all that packages are made of."""
    target.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)


def version() -> str:
    """The package's version with Debian's revision."""
    return re.search(r"\((.+?)\)", (ROOT / "packaging/debian/changelog").read_text())[1]


def control_list(field: str) -> tuple[str, ...]:
    """The packages that a field of debian/control names, without versions and substitution variables."""
    text = (ROOT / "packaging/debian/control").read_text()
    lines = re.search(rf"^{field}:\n((?: .+\n)+)", text, re.MULTILINE)[1].split("\n")
    names = (re.split(r"[ ,]", line.strip())[0] for line in lines)
    return tuple(name for name in names if name and not name.startswith("$"))


def build_deb(work: Path, run: Run) -> list[Path]:
    """The Debian package; lintian speaks about it."""
    shutil.copytree(work / "pyfix/packaging/debian", work / "pyfix/debian")
    # A package without machine code needs no compiler, which is what --no-check-builddeps is for.
    run("pyfix", "dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps")
    package = work / f"pyfix_{version()}_all.deb"
    run(".", "lintian", "--allow-root", "--fail-on=error", package.name)
    return [package]


def build_rpm(work: Path, run: Run) -> list[Path]:
    """The RPM package; rpmlint speaks about it."""
    run(
        ".",
        "rpmbuild",
        "-bb",
        "--define",
        "_topdir %(pwd)/rpm",
        "--define",
        "_sourcedir %(pwd)",
        "pyfix/packaging/rpm/pyfix.spec",
    )
    packages = sorted(work.glob("rpm/RPMS/*/*.rpm"))
    for package in packages:
        run(".", "rpmlint", "--config", "pyfix/packaging/rpm/rpmlint.toml", str(package.relative_to(work)))
    return packages


def build(kind: Callable[[Path, Run], list[Path]], target: Path) -> list[Path]:
    """Builds packages in a directory of their own, and copies them to ``target``."""
    with tempfile.TemporaryDirectory(prefix="pyfix-build-", dir="/var/tmp") as directory:
        work = Path(directory)
        copy_sources(work / "pyfix")
        packages = kind(work, _runner(work))
        target.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(package, target)) for package in packages]


def _runner(work: Path) -> Run:
    if _is_at_home():
        return lambda where, *words: _run(words, cwd=work / where)
    below = tree.with_packages("build", *TOOLS, *control_list("Build-Depends"))
    inside = ("unshare", "--mount", "--propagation=private", "sh", "-c", IN_TREE, "sh", str(work), str(below))
    return lambda where, *words: _run((*inside, where, *words))


def _run(words: tuple[str, ...], **options: object) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    if subprocess.run(words, env=environment, check=False, **options).returncode:
        raise SystemExit(f"failed: {' '.join(words[-4:])}")


def _is_at_home() -> bool:
    """Whether this is a Debian 13 with all that is needed."""
    system = platform.freedesktop_os_release()
    if (system.get("ID"), system.get("VERSION_ID")) != ("debian", "13"):
        return False
    queries = (["dpkg-query", "--show", *TOOLS], ["dpkg-checkbuilddeps", "-B", ROOT / "packaging/debian/control"])
    return all(subprocess.run(query, check=False, capture_output=True).returncode == 0 for query in queries)


if __name__ == "__main__":
    kinds = {"deb": build_deb, "rpm": build_rpm}
    if sys.argv[1:] not in (["deb"], ["rpm"]):
        raise SystemExit("usage: build.py deb|rpm")
    for path in build(kinds[sys.argv[1]], ROOT / "build"):
        print(path.relative_to(ROOT))

"""``make install``: puts pyfix where a package would.

usage: install.py DESTDIR

Modules go to /usr/lib/pyfix, roles to /usr/libexec/pyfix, commands to /usr/sbin and /usr/bin, units, the journal's
message catalog, sysusers.d and tmpfiles.d to /usr/lib, manual pages to /usr/share/man, and an example main.cf to
/etc/pyfix unless there is one.
"""

import runpy
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = "usr/lib/pyfix"
# Where each command stands, as in Postfix's packages; what is not listed stands in /usr/sbin.
USER_COMMANDS = ("mailq", "newaliases")
ALIASES = {"mailq": "sendmail", "newaliases": "sendmail"}

# Commands that run once a message find installed packages themselves, where they need one.
WITHOUT_SITE = ("sendmail",)

LAUNCHER = """\
#!/usr/bin/python3 -{flags}
import sys; sys.path.insert(0, "/usr/lib/pyfix")
try:
    from pyfix.{folder}.{module} import main
except ModuleNotFoundError as error:
    print(f"{module}: fatal: the Python module {{error.name}} is missing; install the packages that pyfix depends on",
          file=sys.stderr)
    sys.exit(78)
main()
"""


def modules(folder: str) -> list[str]:
    """The programs of a folder."""
    return sorted(path.stem for path in (ROOT / "pyfix" / folder).glob("[a-z]*.py"))


def commands() -> dict[str, str]:
    """Each command's name, and the module that it is in."""
    own = {name: name for name in modules("commands")}
    return {alias: module for alias, module in ALIASES.items() if module in own} | own


def write(path: Path, text: str, mode: int) -> None:
    """Writes a file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def write_launcher(path: Path, folder: str, module: str) -> None:
    """Writes the program that runs a module. -I: nothing from the caller's environment or directory is imported."""
    flags = "IS" if module in WITHOUT_SITE else "I"
    write(path, LAUNCHER.format(flags=flags, folder=folder, module=module), 0o755)


def copy(source: Path, target: Path) -> None:
    """Copies a file with its directories."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def install(destination: Path) -> None:
    """Installs everything below ``destination``."""
    shutil.rmtree(destination / MODULES / "pyfix", ignore_errors=True)
    for source in sorted((ROOT / "pyfix").rglob("*")):
        if source.is_file() and source.parent.name != "__pycache__":
            copy(source, destination / MODULES / source.relative_to(ROOT))
    for role in modules("roles"):
        write_launcher(destination / "usr/libexec/pyfix" / role, "roles", role)
        # An empty directory that is the role's root in its unit's sandbox.
        (destination / MODULES / "root" / role).mkdir(parents=True, exist_ok=True)
    for command, module in commands().items():
        directory = "usr/bin" if command in USER_COMMANDS else "usr/sbin"
        write_launcher(destination / directory / command, "commands", module)
    # Where programs that know no PATH look for it.
    link = destination / "usr/lib/sendmail"
    link.unlink(missing_ok=True)
    link.symlink_to("../sbin/sendmail")
    for unit in sorted((ROOT / "units").iterdir()):
        copy(unit, destination / "usr/lib/systemd/system" / unit.name)
    for kind in ("sysusers.d", "tmpfiles.d"):
        copy(ROOT / "packaging" / kind / "pyfix.conf", destination / "usr/lib" / kind / "pyfix.conf")
    copy(ROOT / "packaging/pyfix.catalog", destination / "usr/lib/systemd/catalog/pyfix.catalog")
    if not (destination / "etc/pyfix/main.cf").exists():
        copy(ROOT / "packaging/main.cf", destination / "etc/pyfix/main.cf")
    runpy.run_path(str(ROOT / "man/generate.py"))["write_pages"](destination / "usr/share/man")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: install.py DESTDIR")
    install(Path(sys.argv[1] or "/"))

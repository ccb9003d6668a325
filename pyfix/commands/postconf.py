"""postconf(1): shows and changes the parameters of main.cf.

Description
    Without options, or with names, shows parameters as main.cf and the defaults give them. ``-n`` shows those that
    are set, ``-d`` the defaults, ``-x`` expands ``$name``, ``-h`` shows values only and ``-H`` names only, ``-f``
    folds long lines, ``-o name=value`` overrides main.cf, ``-q`` keeps silent about names that nothing uses, ``-m``
    lists the types of lookup tables.

    ``-e name=value`` changes main.cf or adds to it, ``-#`` turns parameters into comments, ``-X`` removes them. The
    other lines stay as they are. The file is written anew beside the old one and takes its place at once.

Security
    Does what the rights of its caller allow, and no more.

Diagnostics
    Mistakes are reported on standard error. The exit status is 1 for wrong use and for a main.cf that cannot be read or
    written, else 0, also for a name that nobody knows, as in Postfix.
"""

import os
import sys
from collections.abc import Iterator, Sequence

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.edit import comment_out, remove, set_values
from pyfix.conf.main_cf import Assignment, split_assignment
from pyfix.conf.parameter import OBSOLETE, TRANSPORT, every
from pyfix.system.configuration import (
    COMMAND_LINE,
    DEFAULT_DIRECTORY,
    make_config,
    read_assignments,
    replace_main_cf,
)
from pyfix.system.options import Command

COMMAND = Command(
    "postconf",
    "[-c config_dir] [-d (defaults)] [-e (edit)] [-f (fold lines)] [-h (no names)] [-H (no values)] [-m (map types)] "
    "[-n (what is set)] [-o name=value] [-q (quiet)] [-x (expand)] [-X (exclude)] [-# (comment out)] [name...]",
    "Shows and changes the parameters of main.cf.",
)
_WIDTH = 80
_INDENT = "    "
_TRANSPORTS = ("error", "lmtp", "local", "relay", "retry", "smtp", "virtual")
"""The transports whose own parameters are listed even when nobody set them."""


class Request:
    """The command line, understood."""

    def __init__(self, arguments: Sequence[str]) -> None:
        options, self.names = COMMAND.parse(arguments, "c:C:defhHmno:pqvxX#")
        flags = {option for option, _value in options}
        self.directory = next((value for option, value in reversed(options) if option == "-c"), "")
        self.overrides = [_override(value) for option, value in options if option == "-o"]
        self.flags = flags
        edits = [option for option in ("-e", "-X", "-#") if option in flags]
        if not {"-X", "-#"} & flags and "-e" not in flags and self.names and "=" in self.names[0]:
            edits.append("-e")
        elif edits and edits[0] != "-e" and any("=" in name for name in self.names):
            edits.insert(0, "-e")
        modes = [option for option in ("-d", "-n") if option in flags] + edits
        if len(modes) > 1:
            COMMAND.fatal(f"specify one of {' '.join(modes)}")
        self.edit = edits[0] if edits else ""
        if self.edit and self.overrides:
            COMMAND.fatal(f"specify one of {self.edit} -o")


def _override(text: str) -> Assignment:
    pair = split_assignment(text)
    if pair is None:
        COMMAND.fatal(f"missing '=' after attribute name: \"{text}\"")
    return Assignment(*pair, COMMAND_LINE, 0)


def _edit(request: Request, path: str) -> None:
    """Changes main.cf."""
    names = set(request.names)
    if not names:
        COMMAND.fatal(f"{request.edit} requires {'name=value' if request.edit == '-e' else 'name'} argument")
    for name in names:
        if "\n" in name:
            COMMAND.fatal("-e, -X, or -# accepts no multi-line input")
        if name.startswith("#"):
            COMMAND.fatal("-e, -X, or -# accepts no comment input")
    if request.edit == "-e":
        values = dict(_pair(argument) for argument in request.names)
        replace_main_cf(path, lambda content: set_values(content, values))
    elif request.edit == "-#":
        replace_main_cf(path, lambda content: comment_out(content, names))
    else:
        replace_main_cf(path, lambda content: remove(content, names))


def _pair(argument: str) -> tuple[str, str]:
    pair = split_assignment(argument)
    if pair is None:
        trouble = "missing attribute name" if argument.strip().startswith("=") else "missing '=' after attribute name"
        COMMAND.fatal(f'{trouble}: "{argument}"')
    return pair


def _show(request: Request, conf: Config) -> None:
    """Shows parameters."""
    names = request.names or sorted(_all_names(conf) if "-n" not in request.flags else _names_set(conf, request))
    for name in names:
        try:
            value = _value(conf, name, request.flags)
        except KeyError:
            COMMAND.warning(f"{name}: unknown parameter")
        else:
            print(_formatted(name, value, request.flags))


def _value(conf: Config, name: str, flags: set[str]) -> str:
    if "-d" in flags:
        value = conf.default(name)
        return conf.expand(name, value) if "-x" in flags else value
    return conf.text(name) if "-x" in flags else conf.unexpanded(name)


def _all_names(conf: Config) -> Iterator[str]:
    """The declared names, those of the known transports, and the names of one's own that are used."""
    seen = set[str]()
    for parameter in every():
        if parameter.subject == TRANSPORT:
            own = parameter.name.removeprefix(TRANSPORT)
            seen.update(f"{transport}{own}" for transport in _TRANSPORTS if own != "_time_limit")
        elif parameter.subject != OBSOLETE:
            seen.add(parameter.name)
    yield from seen | {name for name in conf.names_set() if conf.is_used(name)}


def _names_set(conf: Config, request: Request) -> Iterator[str]:
    if request.directory and request.directory != DEFAULT_DIRECTORY:
        yield "config_directory"
    yield from (name for name in conf.names_set() if conf.is_used(name))


def _formatted(name: str, value: str, flags: set[str]) -> str:
    if "-H" in flags:
        return name
    words = value.replace("\t", " ").replace("\n", " ").replace("\r", " ").split(" ")
    text = " ".join(word for word in words if word)
    if "-h" not in flags:
        text = f"{name} = {text}" if text else f"{name} ="
    return _folded(text) if "-f" in flags else text


def _folded(text: str) -> str:
    """The text on lines no longer than the width where its words allow, the second and later ones indented."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = _INDENT + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _warn(conf: Config, assignments: Sequence[Assignment]) -> None:
    """Tells of names that nothing uses."""
    for name in conf.names_set():
        if not conf.is_used(name):
            assignment = next(one for one in reversed(assignments) if one.name == name)
            COMMAND.warning(f"{assignment.file}: unused parameter: {name}={assignment.value}")


def _warn_of_repeats(assignments: Sequence[Assignment]) -> None:
    earlier: dict[str, Assignment] = {}
    for one in assignments:
        if one.name in earlier and one.line:
            value = earlier[one.name].value
            COMMAND.warning(f"{one.file}, line {one.line}: overriding earlier entry: {one.name}={value}")
        earlier[one.name] = one


def main() -> None:
    """The command."""
    request = Request(sys.argv[1:])
    directory = request.directory or os.environ.get("MAIL_CONFIG") or DEFAULT_DIRECTORY
    try:
        if "-m" in request.flags:
            from pyfix.tables.table import MODULES  # noqa: PLC0415 -- a command pays for what it uses

            print("\n".join(sorted([*MODULES, "proxy"])))
        elif request.edit:
            _edit(request, os.path.join(directory, "main.cf"))
        else:
            assignments = [*([] if "-d" in request.flags else read_assignments(directory)), *request.overrides]
            conf = make_config(directory, assignments)
            _warn_of_repeats(assignments)
            _show(request, conf)
            sys.stdout.flush()
            if "-q" not in request.flags:
                _warn(conf, assignments)
    except ConfigError as error:
        COMMAND.fatal(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        COMMAND.fatal(f"{error.filename or directory}: {error.strerror}")


if __name__ == "__main__":
    main()

"""A role's command line, and what every role needs before it starts: configuration, journal, sockets."""

import getopt
import os
import sys

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.version import VERSION
from pyfix.service import events
from pyfix.system import notify
from pyfix.system.activation import Listener, take_listeners
from pyfix.system.configuration import load_config
from pyfix.system.journal import Journal

EX_CONFIG = 78
"""Exit status for a configuration that cannot work: restarting would not help."""


class Options:
    """A role's command line: ``-o name=value`` (repeated), ``-w workers``, ``-v``, and arguments of the role's own."""

    def __init__(self, name: str, description: str, extra: tuple[str, ...] = ()) -> None:
        self.name = name
        self.overrides: list[tuple[str, str]] = []
        self.workers = 1
        self.extra: dict[str, str] = {}
        usage = f"usage: {name} [-o name=value ...] [-w workers]" + "".join(f" [--{e} value]" for e in extra)
        try:
            options, rest = getopt.getopt(sys.argv[1:], "o:w:v", ["help", "version", *(f"{e}=" for e in extra)])
            for argument in rest:
                self._take("", argument)
            for option, value in options:
                if option == "--help":
                    print(f"{usage}\n\n{description}\n\nSee {name}(8pyfix).")
                    raise SystemExit(0)
                if option == "--version":
                    print(f"pyfix {VERSION}")
                    raise SystemExit(0)
                self._take(option, value)
        except getopt.GetoptError as error:
            print(f"{name}: {error}\n{usage}", file=sys.stderr)
            raise SystemExit(os.EX_USAGE) from None

    def _take(self, option: str, value: str) -> None:
        if option == "-o":
            parameter, equals, setting = value.partition("=")
            if not equals:
                raise getopt.GetoptError(f"-o {value}: name=value expected")
            self.overrides.append((parameter.strip(" \t"), setting.strip(" \t")))
        elif option == "-w":
            if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1000):
                raise getopt.GetoptError(f"-w {value}: a number of workers from 1 to 1000 expected")
            self.workers = int(value)
        elif not option:
            raise getopt.GetoptError(f"unexpected argument {value!r}")
        elif option != "-v":
            self.extra[option.removeprefix("--")] = value


def refuse(journal: Journal, error: ConfigError) -> int:
    """Says why the role does not start, in the journal and to systemd; the exit status."""
    journal.write(events.configuration_refused(str(error)))
    notify.status(f"Not started: {error}")
    return EX_CONFIG


def describe(error: ConfigError | OSError) -> str:
    """What the journal says of trouble at the start or at a reload."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def load_checked(options: Options) -> Config:
    """The configuration as it is now, every parameter of it valid. Raises ConfigError."""
    conf = load_config(options.overrides)
    conf.check()
    return conf


def prepare(options: Options) -> tuple[Config, Journal, list[Listener]]:
    """Configuration, journal and sockets of a role. Exits with EX_CONFIG where the configuration is wrong."""
    listeners = take_listeners()
    try:
        conf = load_checked(options)
    except ConfigError as error:
        raise SystemExit(refuse(Journal(f"pyfix/{options.name}"), error)) from None
    return conf, Journal(f"{conf.text('syslog_name')}/{options.name}"), listeners

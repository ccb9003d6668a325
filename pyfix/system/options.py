"""Command lines of commands: getopt's short options, as Postfix's commands have them, and --help and --version."""

import getopt
import sys

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


# Control characters, and bytes that are no UTF-8.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), *range(0xDC80, 0xDD00)], "?")


def printable(text: str) -> str:
    """A text without characters that control a terminal or break a log; as in Postfix they become question marks."""
    return text.translate(_CONTROLS)


class Command:
    """A command's name, its usage (what follows the name), and what it does: the text of ``--help``."""

    __slots__ = ("description", "name", "usage")

    def __init__(self, name: str, usage: str, description: str) -> None:
        self.name = name
        self.usage = usage
        self.description = description

    def parse(
        self, arguments: "Sequence[str]", options: str, long: "Sequence[str]" = ()
    ) -> "tuple[list[tuple[str, str]], list[str]]":
        """The options in their order and the arguments after them; ``options`` and ``long`` are getopt_long(3)'s.

        A wrong option ends the program with status 1, as in Postfix; ``--help`` and ``--version`` end it with 0.
        """
        try:
            found, rest = getopt.getopt(arguments, options, [*long, "help", "version"])
        except getopt.GetoptError as error:
            print(f"{self.name}: {error}", file=sys.stderr)
            self.fatal(f"usage: {self.name} {self.usage}")
        for option, _ in found:
            if option == "--help":
                self.help()
            if option == "--version":
                from pyfix.conf.version import VERSION  # noqa: PLC0415 -- a command pays for what it uses

                print(f"pyfix {VERSION}")
                raise SystemExit(0)
        return found, list(rest)

    def help(self) -> "NoReturn":
        """Show the text of ``--help`` and end the program."""
        print(f"usage: {self.name} {self.usage}\n\n{self.description}\n\nSee {self.name}(1pyfix).")
        raise SystemExit(0)

    def warning(self, message: str) -> None:
        """Say on standard error what is wrong, and go on."""
        print(f"{self.name}: warning: {printable(message)}", file=sys.stderr)

    def fatal(self, message: str, status: int = 1) -> "NoReturn":
        """Say on standard error why the command gives up, and end it."""
        print(f"{self.name}: fatal: {printable(message)}", file=sys.stderr)
        raise SystemExit(status)

"""What sendmail's command line asks for.

The options are those of Postfix's sendmail, wrong ones are refused with its words; they come as in getopt(3), but for
``-q`` and ``-XV``, which stand alone.
"""

import posix  # what os is made of, as sendmail's start must be quick
import sys

TYPE_CHECKING = False  # typing is not imported: it costs a tenth of the start
if TYPE_CHECKING:
    from typing import NoReturn

# Other names of the command, and what they stand for.
_OTHER_NAMES = {"mailq": "p", "newaliases": "i"}
_OPTIONS_WITH_VALUE = "ABCFLNORVXbefhopqr"
_OPTIONS_WITHOUT = "GIUcimtvnx"
_NOTIFY = {"NEVER": 1, "SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
_ENVID_LIMIT = 100


class Request:
    """What the command line asks for."""

    def __init__(self, mode: str) -> None:
        # the letter of -b: m deliver, p list, i aliases, s SMTP, h nothing; q flush
        self.mode = mode
        self.arguments: list[str] = []
        self.directory = ""
        self.dot_ends = True
        self.encoding = ""
        self.envid = ""
        self.extract = False
        self.flush_id = ""
        self.flush_site = ""
        self.full_name: str | None = None
        self.interval = False
        self.notify = 0
        self.ret = ""
        self.sender: str | None = None
        self.smtputf8 = False
        # the sender wants a report of: "record" a delivery (-v), "verify" what a delivery would do (-bv)
        self.trace = "none"
        self.verbose = 0
        # the delimiters of a variable envelope return path, "" for those of main.cf
        self.verp: str | None = None


def fatal(text: str) -> "NoReturn":
    """Says what is wrong and ends the command."""
    _say(f"fatal: {text}")
    raise SystemExit(posix.EX_TEMPFAIL)


def _usage(text: str) -> "NoReturn":
    """Says what is wrong with an option."""
    _say(text)
    fatal(f"usage: {_name()} [options]")


def warning(text: str) -> None:
    """Says what is odd."""
    _say(f"warning: {text}")


def _say(text: str) -> None:
    # sys.stderr is not there where the caller has closed it.
    posix.write(2, f"{_name()}: {text}\n".encode("utf-8", "backslashreplace"))


def _name() -> str:
    """The name that the command was called by, if it is one of its own."""
    name = sys.argv[0].rpartition("/")[2]
    return name if name in _OTHER_NAMES else "sendmail"


def parse(name: str, arguments: list[str]) -> Request:
    """The request of a command line; ``name`` is the one that the command was called by."""
    request = Request(_OTHER_NAMES.get(name, "m"))
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            position += 1
            break
        if len(argument) < 2 or not argument.startswith("-"):
            break
        position += 1
        if argument == "-q":
            request.mode = "q"
            continue
        if argument == "-V" and [len(value) for value in arguments[position : position + 1]] == [2]:
            warning("option -V is deprecated with Postfix 2.3; specify -XV instead")
            argument = "-XV"
        elif argument.startswith("-V") and len(argument) == len("-V+="):
            warning(f"option {argument} is deprecated with Postfix 2.3; specify -X{argument[1:]} instead")
            argument = f"-X{argument[1:]}"
        if argument == "-XV":
            request.verp = ""
            continue
        position = _letters(request, argument, arguments, position)
    request.arguments = arguments[position:]
    _check(request)
    return request


def _letters(request: Request, argument: str, arguments: list[str], position: int) -> int:
    """Takes the options of one argument; the position behind it and its value."""
    for index, letter in enumerate(argument[1:], 2):
        if letter in _OPTIONS_WITHOUT:
            _take(request, letter, "")
        elif letter in _OPTIONS_WITH_VALUE:
            if len(argument) > index:
                _take(request, letter, argument[index:])
            elif position < len(arguments):
                _take(request, letter, arguments[position])
                position += 1
            else:
                _usage(f"option requires an argument -- '{letter}'")
            break
        else:
            _usage(f"invalid option -- '{letter}'")
    return position


def _take(request: Request, letter: str, value: str) -> None:
    takers = {
        "B": _take_encoding,
        "C": _take_directory,
        "N": _take_notify,
        "V": _take_envid,
        "X": _take_extension,
        "b": _take_mode,
        "n": lambda _, __: fatal("-n option not supported"),
        "o": _take_old,
        "q": _take_flush,
    }
    if letter in takers:
        takers[letter](request, value)
    elif letter in "fr":
        request.sender = value
    elif letter == "F":
        request.full_name = value
    elif letter == "t":
        request.extract = True
    elif letter == "i":
        request.dot_ends = False
    elif letter == "I":
        request.mode = "i"
    elif letter == "O":
        request.smtputf8 = request.smtputf8 or value.lower() == "smtputf8=yes"
    elif letter == "R":
        _take_ret(request, value)
    elif letter == "v":
        request.verbose += 1


def _take_directory(request: Request, value: str) -> None:
    import os  # noqa: PLC0415 -- few say where main.cf is

    request.directory = os.path.dirname(value) if os.path.basename(value) == "main.cf" else value
    os.environ["MAIL_CONFIG"] = request.directory


def _take_old(request: Request, value: str) -> None:
    """An option of sendmail V8 in its short form."""
    if value.startswith("i"):
        request.dot_ends = False
    elif value == "A":
        fatal("-oA requires pathname")


def _take_extension(request: Request, value: str) -> None:
    if not value.startswith("V"):
        fatal(f"unsupported: -X{value[:1]}")
    request.verp = value[1:]


def _take_mode(request: Request, mode: str) -> None:
    if mode == "v":
        request.trace = "verify"
        return
    if mode not in {"m", "p", "i", "s", "h", "H"}:
        fatal(f"unsupported: -b{mode}")
    request.mode = mode.lower()


def _take_flush(request: Request, value: str) -> None:
    if value[:1] in set("0123456789"):
        request.interval = True
    elif value[:1] == "R":
        request.flush_site = value[1:] or fatal("specify: -qRsitename")
    elif value[:1] == "I":
        request.flush_id = value[1:] or fatal("specify: -qIqueueid")
    else:
        fatal(f"-q{value[:1]} is not implemented")


def _take_encoding(request: Request, value: str) -> None:
    if value not in {"8BITMIME", "7BIT"}:
        fatal("-B option needs 8BITMIME or 7BIT")
    request.encoding = "8bit" if value == "8BITMIME" else "7bit"


def _take_notify(request: Request, value: str) -> None:
    names = value.upper().replace(",", " ").split()
    unknown = [name for name in value.replace(",", " ").split() if name.upper() not in _NOTIFY]
    if unknown:
        warning(f'unknown DSN NOTIFY command value "{unknown[0]}" in "{value}"')
    if unknown or not names or ("NEVER" in names and set(names) != {"NEVER"}):
        warning("bad -N option value -- ignored")
        return
    request.notify = sum({_NOTIFY[name] for name in names})


def _take_ret(request: Request, value: str) -> None:
    if value.upper() not in {"FULL", "HDRS"}:
        warning("bad -R option value -- ignored")
        return
    request.ret = value.upper()


def _take_envid(request: Request, value: str) -> None:
    if len(value) > _ENVID_LIMIT:
        warning("too long -V option value -- ignored")
    elif not (value and value.isascii() and value.isprintable()):
        warning("bad syntax in -V option value -- ignored")
    else:
        request.envid = value


def _check(request: Request) -> None:
    if request.extract and request.mode != "m":
        fatal("-t can be used only in delivery mode")
    if request.flush_site and request.mode != "m":
        fatal("-qR can be used only in delivery mode")
    if request.flush_id and request.mode != "m":
        fatal("-qI can be used only in delivery mode")
    if request.trace != "none":
        for unwanted, letter in (
            (request.extract, "t"),
            (request.notify, "N"),
            (request.ret, "R"),
            (request.verbose == 1, "v"),
        ):
            if unwanted:
                fatal(f"-{letter} option cannot be used with -bv")
    elif request.verbose == 1 and request.mode == "m":
        request.trace = "record"
    what = {
        "p": "display queue mode",
        "q": "flush queue mode",
        "i": "alias initialization mode",
        "s": "stand-alone mode",
    }.get(request.mode, "flush site" if request.flush_site else "flush queue_id" if request.flush_id else "")
    if what and request.arguments:
        fatal(f"{what} requires no recipient")

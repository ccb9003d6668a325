"""sendmail(1): the command with which programs send mail; also mailq and newaliases, by these names.

Description
    Reads a message and hands it to the postdrop service. Exit status 0 says that the message is durable in the
    maildrop queue. ``-t`` takes more recipients from To, Cc and Bcc; ``-f`` and ``-r`` set the envelope sender, ``-F``
    the full name; a line with a single dot ends the message unless ``-i`` or ``-oi`` is given; ``-B``, ``-N``, ``-R``
    and ``-V`` are RFC 6152 BODY and RFC 3461 NOTIFY, RET, ENVID; ``-XV`` has a sender of its own made for each
    recipient. ``-v`` has a report of the delivery sent, ``-bv`` one of what a delivery would do, without it.

    ``-bp`` lists the queue. ``-q``, ``-qIqueue_id`` and ``-qRsite`` have all mail, one message, or mail for one
    destination tried now. ``-bs`` speaks SMTP on standard input and output. Options of other sendmails that mean
    nothing here are ignored.

Security
    Runs with the rights of whoever calls it. postdrop knows who that is, and checks everything anew.

Diagnostics
    Problems go to standard error. The exit status is 75 for whatever is wrong, as Postfix's is: with the command line,
    the message, the user, or the mail system. Listing and flushing the queue end as postqueue does.
"""

import posix  # what os is made of, which would be a seventh of the time that a submission takes
import sys

from pyfix.commands._request import fatal, parse, warning
from pyfix.system.call import Caller, CallError
from pyfix.wire.submission import RecipientFields, SubmissionText

TYPE_CHECKING = False  # typing is not imported: it costs a tenth of the start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from pyfix.commands._request import Request
    from pyfix.conf.config import Config

_CHUNK = 65536
# Parts of an address or of a header field that are looked at (header_address_token_limit).
_TOKEN_LIMIT = 10_240
# Seconds to wait for a connection, and for an answer.
_PATIENCE = 60.0
_TIMEOUT = 300.0
# What an address is made of that needs no parsing.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+=@/#$%&'*?^{|}~")
_REFUSED = "io.pyfix.Postdrop.Refused"


class Transaction:
    """A message on its way to postdrop, which reads it from a pipe. All methods raise CallError and OSError.

    postdrop is called when the pipe is full or the message is whole: most messages take one exchange, and whoever types
    a message holds up nothing.
    """

    def __init__(self, envelope: "Mapping[str, object]") -> None:
        self._envelope = envelope
        self._service: Caller | None = None
        self._reading, self._writing = posix.pipe()
        posix.set_blocking(self._writing, False)

    def _open(self) -> Caller:
        runtime = _environment("PYFIX_RUNTIME") or "/run/pyfix"
        service = Caller(f"{runtime}/postdrop/io.pyfix.Postdrop", _PATIENCE, _TIMEOUT)
        service.send("io.pyfix.Postdrop.Open", self._envelope, (self._reading,))
        posix.close(self._reading)
        return service

    def write(self, content: bytes) -> bool:
        """Writes some content; False if postdrop wants no more, which commit() explains."""
        while content:
            try:
                content = content[posix.write(self._writing, content) :]
            except BlockingIOError:
                self._service = self._open()
                # A system that is down in a way that accepts connections would leave the pipe full and unread.
                self._service.wait()
                posix.set_blocking(self._writing, True)
            except BrokenPipeError:
                return False
        return True

    def commit(self) -> None:
        """Returns when the message is durable."""
        service = self._service or self._open()
        posix.close(self._writing)
        service.send("io.pyfix.Postdrop.Commit", {})
        service.wait()


class Submission:
    """What is done with standard input."""

    def __init__(self, request: "Request") -> None:
        self._request = request
        self._uid = posix.getuid()
        # as -f says it, without what a header would have around it
        self._saved_sender: str | None = None

    def run(self) -> None:
        """Submits standard input. Ends the command where it cannot be done."""
        request = self._request
        self._saved_sender = self._sender()
        recipients = [address for argument in request.arguments for address in self._addresses(argument)]
        if not recipients and not request.extract:
            text = "Recipient addresses must be specified on the command line or via the -t option"
            self._fatal(text)
        envelope = {
            "content": 0,
            "sender": self._saved_sender,
            "recipients": recipients,
            "full_name": self._text(_environment("NAME") if request.full_name is None else request.full_name),
            "extract_recipients": request.extract,
            "envid": request.envid,
            "ret": request.ret,
            "notify": request.notify,
            "encoding": request.encoding,
            "smtputf8": request.smtputf8,
            "trace": request.trace,
            "verp_delimiters": self._verp_delimiters(),
        }
        try:
            self._submit(envelope, need_header=not recipients)
        except CallError as error:
            self._refused(error)
        except OSError as error:
            self._fatal(f"mail system is down: {error.strerror or error}")
        if request.trace != "none":
            posix.write(1, f"Mail Delivery Status Report will be mailed to <{self._who()}>.\n".encode())

    def _submit(self, envelope: "Mapping[str, object]", *, need_header: bool) -> None:
        transaction = Transaction(envelope)
        fields = RecipientFields() if need_header else None
        if self._copy(transaction, fields) and fields is not None:
            fields.finish()
            if not any(self._has_address(body) for body in fields.bodies):
                # The connection is closed without Commit: nothing is kept.
                self._fatal("No recipient addresses found in message header")
        transaction.commit()

    def _copy(self, transaction: Transaction, fields: RecipientFields | None) -> bool:
        """Copies standard input, until its end or, False, until postdrop wants no more."""
        text = SubmissionText(_fix_line_endings(self._request.directory), dot_ends=self._request.dot_ends)
        more = True
        while more:
            try:
                data = posix.read(0, _CHUNK)
            except OSError as error:
                self._fatal(f"error reading input: {error.strerror}")
            content = text.feed(data) if data else text.finish()
            more = bool(data) and not text.ended
            if fields is not None:
                fields.feed(content)
            if not transaction.write(content):
                return False
        return True

    def _has_address(self, body: bytes) -> bool:
        """Whether a field of the header names a recipient, as cleanup will see it."""
        text = b"\n".join(line.partition(b"\0")[0] for line in body.split(b"\n")).decode("utf-8", "replace")
        if text.strip(" \t\n") and _PLAIN.issuperset(text.strip(" \t\n")):
            return True
        from pyfix.mail.address import parse_addresses  # noqa: PLC0415 -- only odd fields pay for a parser

        return any(mailbox.address for mailbox in parse_addresses(text, _TOKEN_LIMIT))

    def _sender(self) -> str | None:
        sender = self._request.sender
        if sender is None:
            return None
        found = self._addresses(sender) if sender else []
        if len(found) > 1:
            warning(f"-f option specified malformed sender: {sender}")
        return found[0] if found else ""

    def _verp_delimiters(self) -> str:
        if self._request.verp is None:
            return ""
        if self._saved_sender == "":
            self._fatal("-V option requires non-null sender address")
        conf = _load_config()
        allowed = conf.text("verp_delimiter_filter")
        delimiters = self._request.verp or conf.text("default_verp_delimiters")
        if len(delimiters) != len("+=") or not set(delimiters) <= set(allowed):
            fatal(f"-V requires two characters from {allowed}")
        return delimiters

    def _addresses(self, argument: str) -> list[str]:
        """The addresses of an argument, as if it stood in a header: ``a, b`` are two, ``Full Name <a>`` is one."""
        if argument and _PLAIN.issuperset(argument):
            return [argument]
        # Only odd arguments pay for a parser.
        from pyfix.mail.address import parse_addresses  # noqa: PLC0415

        found = [mailbox.address for mailbox in parse_addresses(self._text(argument) or "", _TOKEN_LIMIT)]
        if not found and argument not in {"", "<>"}:
            self._fatal(f"no address in {argument!a}")
        return found

    def _text(self, argument: str | None) -> str | None:
        """An argument of the command line, which is UTF-8 whatever the locale."""
        if argument is None or argument.isascii():
            return argument
        try:
            return argument.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()).decode()
        except UnicodeDecodeError:
            self._fatal(f"not valid UTF-8: {argument!a}")

    def _refused(self, error: CallError) -> "NoReturn":
        status, text = str(error.parameters.get("status", "")), str(error.parameters.get("text", error.name))
        if error.name == _REFUSED and status in {"5.1.7", "5.7.1"}:
            fatal(text)
        self._fatal(text)

    def _who(self) -> str:
        """Who sends it, for messages."""
        if self._saved_sender is not None:
            return self._saved_sender
        import pwd  # noqa: PLC0415 -- only for messages

        try:
            return pwd.getpwuid(self._uid).pw_name
        except KeyError:
            return "unknown"

    def _fatal(self, text: str) -> "NoReturn":
        fatal(f"{self._who()}({self._uid}): {text}")


def _environment(name: str) -> str | None:
    value: bytes | None = posix.environ.get(name.encode())
    return None if value is None else value.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _fix_line_endings(directory: str) -> str:
    """sendmail_fix_line_endings; the configuration is read only where main.cf mentions it."""
    directory = directory or _environment("MAIL_CONFIG") or "/etc/pyfix"
    try:
        with open(f"{directory}/main.cf", "rb") as file:
            mentioned = b"sendmail_fix_line_endings" in file.read()
    except OSError:
        mentioned = False
    return _load_config().text("sendmail_fix_line_endings") if mentioned else "always"


def _load_config() -> "Config":
    _find_packages()
    from pyfix.conf.error import ConfigError  # noqa: PLC0415 -- costs most of the start, and few need it
    from pyfix.system.configuration import load_config  # noqa: PLC0415

    try:
        return load_config()
    except ConfigError as error:
        fatal(str(error))


def _find_packages() -> None:
    """Has Python look for installed packages too. The launcher starts it without, in two thirds of the time."""
    if sys.flags.no_site:
        import site  # noqa: PLC0415 -- what few need

        site.main()


def _queue_command(*arguments: str) -> None:
    _find_packages()
    from pyfix.commands.postqueue import main as postqueue  # noqa: PLC0415 -- the start of sendmail does not pay for it

    sys.argv = ["postqueue", *arguments]
    postqueue()


def _smtp() -> None:
    conf = _load_config()
    from pyfix.access import stand_alone as session  # noqa: PLC0415 -- as above
    from pyfix.conf.error import ConfigError  # noqa: PLC0415
    from pyfix.service import stand_alone  # noqa: PLC0415

    try:
        stand_alone.run(conf, session.begin)
    except ConfigError as error:
        fatal(str(error))


def _keep_standard_descriptors() -> None:
    """A descriptor that the caller left closed must not become that of something else."""
    for fd in range(3):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)


def main() -> None:
    """The command."""
    _keep_standard_descriptors()
    request = parse(sys.argv[0].rpartition("/")[2], sys.argv[1:])
    actions: dict[str, Callable[[], None]] = {
        "h": lambda: None,
        "i": lambda: fatal("unsupported: -bi (newaliases): this version of pyfix builds no alias tables"),
        "p": lambda: _queue_command("-p"),
        "q": lambda: _queue_command("-f"),
        "s": _smtp,
    }
    if request.interval:
        return
    if request.mode in actions:
        actions[request.mode]()
    elif request.flush_site:
        _queue_command("-s", request.flush_site)
    elif request.flush_id:
        _queue_command("-i", request.flush_id)
    else:
        Submission(request).run()
        # Nothing is buffered, and to take Python apart costs more than a submission.
        posix._exit(posix.EX_OK)  # noqa: SLF001 -- a public function, by the name that it has in os too


if __name__ == "__main__":
    main()

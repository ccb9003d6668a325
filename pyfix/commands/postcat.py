"""postcat(1): shows queue files.

Description
    Prints the contents of queue files, envelope and message. The output is Postfix's.

Security
    Opens files for reading only. Believes nothing in them: records are bounded, pointer records that lead in circles
    are noticed, and what is printed is what the file holds, terminal control characters included, as in Postfix.

Diagnostics
    Problems are reported on standard error. The exit status is 0, or 1 when a file cannot be read to its end.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import BinaryIO

from pyfix.conf.error import ConfigError
from pyfix.spool import record
from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_queue_id
from pyfix.spool.record import NAMES, CorruptFile, Record, RecordReader, parse_number
from pyfix.system.configuration import load_config
from pyfix.system.options import Command

COMMAND = Command(
    "postcat",
    "[-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] [-f (file name prefix)] "
    "[-h (header text)] [-o (record offset)] [-q (access queue)] [-r (raw record order)] [-s offset] [-v] [file(s)...]",
    "Shows the contents of queue files, or of standard input.",
)

QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "saved")

_FIRST_TYPES = b"MCTcFILSDRO/WVA>K<ion"
_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
_DIGITS = re.compile(rb"[ \t]*([+-]?[0-9]{1,11})")
_TEXT = (record.CONTINUED, record.NORMAL)
_BLANK = b" \t\r\n\v\f"


class Flags:
    """What to show; all of the envelope and the message unless one of them is asked for."""

    def __init__(self) -> None:
        self.body = self.envelope = self.header = False
        self.decimal = self.offset = self.prefix = self.raw = self.verbose = self.queue = False
        # where to start in each file
        self.start = 0


class Printer:
    """Shows one file. Its states are those of Postfix's postcat, with which the tests compare it.

    ``path`` is what the file is called in the output; ``descriptor`` is seekable.
    """

    def __init__(self, flags: Flags, path: str, descriptor: int, out: BinaryIO) -> None:
        self._flags = flags
        self._path = os.fsencode(path)
        self._out = out
        self._descriptor = descriptor
        self._reader = RecordReader(descriptor, flags.start, raw=flags.verbose)
        # "envelope" (the extracted one too), "header" or "body"
        self._state = "envelope"
        self._shown = flags.envelope
        # the type of the record printed last; empty after an L record with a line end
        self._previous = b""
        # the content, as the size record tells; nothing else is skipped unread
        self._content: tuple[int, int] | None = None

    def print(self) -> None:
        """Show the file. Raises CorruptFile and OSError."""
        if self._flags.start == 0:
            first = os.pread(self._descriptor, 1, 0)
            if first and first not in _FIRST_TYPES:
                self._warn("input is not a valid queue file")
                return
            if self._flags.envelope:
                self._out.write(b"*** ENVELOPE RECORDS %s ***\n" % self._path)
        going = True
        while going:
            offset = self._reader.offset
            item = self._reader.read()
            going = item is not None and self._show(item._replace(offset=offset))

    def _warn(self, message: str) -> None:
        self._out.flush()
        COMMAND.warning(f"{os.fsdecode(self._path)}: {message}")

    def _lead(self, item: Record) -> bytes:
        """What stands before a record."""
        lead = self._path + b": " if self._flags.prefix else b""
        if self._flags.offset:
            lead += b"%9d " % item.offset
        return lead + (b"%3d " % item.type[0] if self._flags.decimal else b"")

    def _mark(self, item: Record, text: bytes) -> None:
        if self._flags.envelope:
            self._out.write(b"%s*** %s %s ***\n" % (self._lead(item), text, self._path))

    def _show(self, item: Record) -> bool:
        """Show a record as far as it was asked for; whether there may be more to show."""
        if item.type in _TEXT:
            return self._show_text(item)
        if item.type == record.MESSAGE:
            self._begin_message(item)
        elif item.type == record.EXTRACTED:
            return self._begin_extracted(item)
        elif item.type == record.END:
            if self._state != "envelope":
                self._warn("out-of-order message end marker")
            self._mark(item, b"MESSAGE FILE END")
            return self._flags.raw and self._flags.verbose
        elif item.type == record.POINTER:
            self._show_value(item)
            self._follow(item)
        elif item.type == record.SIZE:
            self._show_value(item)
            self._take_size(item)
        else:
            self._show_fact(item)
        return True

    def _follow(self, pointer: Record) -> None:
        if not self._flags.raw:
            try:
                self._reader.follow(pointer)
            except CorruptFile as error:
                self._warn(error.reason)
                COMMAND.fatal("bad pointer record, or input is not seekable")

    def _begin_message(self, item: Record) -> None:
        if self._state != "envelope":
            self._warn("out-of-order message content marker")
        self._mark(item, b"MESSAGE CONTENTS")
        if not self._flags.header and not self._flags.body:
            self._skip_content()
        self._state, self._shown = "header", self._flags.header

    def _begin_extracted(self, item: Record) -> bool:
        if self._state == "envelope":
            self._warn("out-of-order extracted segment marker")
        if self._flags.envelope and self._shown and self._previous == record.CONTINUED:
            self._out.write(b"\n")
        self._mark(item, b"HEADER EXTRACTED")
        self._state, self._shown = "envelope", self._flags.envelope
        return self._shown

    def _skip_content(self) -> None:
        if self._content is not None:
            offset, size = self._content
            if offset > 0 and size >= 0:
                self._reader.seek(offset + size)

    def _take_size(self, item: Record) -> None:
        # Postfix 3.11 writes a preliminary size record to maildrop files.
        if self._path.startswith(b"maildrop/"):
            return
        if self._content is not None:
            COMMAND.warning("file contains multiple size records")
            return
        numbers = [parse_number(field) for field in item.data.split()[:2]]
        size, offset = [-1 if number is None else number for number in (*numbers, None, None)[:2]]
        self._content = offset, size
        if offset <= 0 or size <= 0:
            self._out.flush()
            COMMAND.warning(f"invalid size record: {item.data[:100].decode('utf-8', 'replace')}")
        if not self._flags.envelope:
            if offset < 0:
                COMMAND.fatal("seek error: Invalid argument")
            self._reader.seek(offset)
            self._state, self._shown = "header", self._flags.header

    def _show_text(self, item: Record) -> bool:
        flags, data = self._flags, item.data
        at_line_start = self._previous != record.CONTINUED
        wanted = flags.header or flags.body
        if self._state == "header" and wanted and at_line_start and not _in_header(data):
            self._state, self._shown = "body", flags.body
            if not self._shown and not flags.envelope:
                return False
            if not self._shown:
                self._skip_content()
        if not self._shown:
            return True
        name, end = b"", b"\n"
        if item.type == record.NORMAL:
            name = b"regular_text: " if flags.verbose else b""
        elif self._state == "envelope":
            name = b"content_filter: "
        elif flags.verbose:
            name = b"unterminated_text: "
        elif not flags.offset:
            end = b""
        self._out.write(self._lead(item) + name + data + end)
        self._previous = item.type if item.type == record.NORMAL or not end else b""
        return True

    def _show_value(self, item: Record) -> None:
        if self._shown:
            name = NAMES.get(item.type, "unknown_record_type").encode()
            self._out.write(b"%s%s: %s\n" % (self._lead(item), name, _c_string(item.data)))

    def _show_fact(self, item: Record) -> None:
        if not self._shown:
            return
        self._previous = item.type
        if item.type in (record.TIME, record.WARN):
            self._show_time(item, NAMES[item.type], item.data)
        elif item.type == record.ATTRIBUTE:
            self._show_attribute(item)
        elif item.type == record.PADDING:
            self._out.write(b"%spadding: %s\n" % (self._lead(item), item.data))
        else:
            self._show_value(item)

    def _show_time(self, item: Record, name: str, data: bytes) -> None:
        digits = _DIGITS.match(data)
        moment = time.asctime(time.localtime(int(digits[1]) if digits else 0))
        self._out.write(b"%s%s: %s\n" % (self._lead(item), name.encode(), moment.encode()))

    def _show_attribute(self, item: Record) -> None:
        text = _c_string(item.data)
        name, equals, value = (part.strip(_BLANK) for part in text.partition(b"="))
        shown = text[:100].decode("utf-8", "replace")
        if not name:
            self._out.write(self._lead(item))
            self._warn(f"malformed attribute: missing attribute name: {shown}")
        elif not equals:
            self._out.write(self._lead(item))
            self._warn(f"malformed attribute: missing '=' after attribute name: {shown}")
        elif name == b"create_time":
            self._show_time(item, "create_time", value)
        else:
            self._out.write(b"%snamed_attribute: %s=%s\n" % (self._lead(item), name, value))


def _c_string(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _in_header(line: bytes) -> bool:
    return line[:1] in (b" ", b"\t") or _HEADER.match(line) is not None


def _parse(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    flags = Flags()
    switches = {
        "-b": "body",
        "-d": "decimal",
        "-e": "envelope",
        "-f": "prefix",
        "-h": "header",
        "-o": "offset",
        "-q": "queue",
        "-r": "raw",
        "-v": "verbose",
    }
    options, files = COMMAND.parse(arguments, "bc:defhoqrs:v")
    for option, value in options:
        if option == "-c":
            os.environ["MAIL_CONFIG"] = value
        elif option == "-s":
            start = parse_number(value.encode())
            if start is None:
                COMMAND.fatal(f"bad offset: {value}")
            flags.start = start
        else:
            setattr(flags, switches[option], True)
    if not (flags.body or flags.envelope or flags.header):
        flags.body = flags.envelope = flags.header = True
    return flags, files


def _show_file(flags: Flags, path: str, descriptor: int) -> None:
    out = sys.stdout.buffer
    try:
        Printer(flags, path, descriptor, out).print()
    except CorruptFile as error:
        out.flush()
        COMMAND.warning(f"{path}: {error.reason}")
        COMMAND.fatal("record read error")
    except OSError as error:
        out.flush()
        COMMAND.fatal(f"{path}: {error.strerror}")
    finally:
        os.close(descriptor)
    out.flush()


def _show_standard_input(flags: Flags) -> None:
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        size = os.fstat(copy.fileno()).st_size
        if flags.start > size:
            COMMAND.fatal(f"stdin: skip {flags.start} bytes failed after {size}")
        _show_file(flags, "stdin", os.dup(copy.fileno()))


def _open_queue_file(spool: Spool, queue_id: str) -> tuple[str, int]:
    if not is_queue_id(queue_id):
        COMMAND.fatal(f"bad mail queue ID: {queue_id}")
    for queue in (*QUEUES, *QUEUES):
        try:
            path = spool.find(queue, queue_id)
            if path is not None:
                return path, os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=spool.descriptor)
        except FileNotFoundError:
            continue
        except OSError as error:
            COMMAND.fatal(f"open queue file {queue_id}: {error.strerror}")
    return COMMAND.fatal(f"open queue file {queue_id}: No such file or directory")


def _show_queue_files(flags: Flags, queue_ids: Sequence[str]) -> None:
    try:
        conf = load_config()
        root = conf.text("queue_directory")
        spool = Spool(root, conf.words("hash_queue_names"), conf.integer("hash_queue_depth"))
    except ConfigError as error:
        COMMAND.fatal(str(error))
    except OSError as error:
        COMMAND.fatal(f"chdir {error.filename}: {error.strerror}")
    for queue_id in queue_ids:
        _show_file(flags, *_open_queue_file(spool, queue_id))


def main() -> None:
    """The command."""
    flags, files = _parse(sys.argv[1:])
    if not files:
        _show_standard_input(flags)
    elif flags.queue:
        _show_queue_files(flags, files)
    else:
        for path in files:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                COMMAND.fatal(f"open {path}: {error.strerror}")
            _show_file(flags, path, descriptor)


if __name__ == "__main__":
    main()

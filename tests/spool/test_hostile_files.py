"""Queue files and maildrop files that are broken or hostile: only declared errors, in time linear in their size."""

import contextlib
import io
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfix.commands.postcat import Flags, Printer
from pyfix.roles import pickup
from pyfix.service.listing import pages
from pyfix.spool.active import ActiveQueue
from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.spool.record import CorruptFile, encode

FILES = 10_000
# as many are read at a time
RECIPIENTS = 5
QUEUE_ID, SUBMISSION_ID = "4jXZ1m485RzD2qY", "4jXZ1m485RzD2qZ"
FIXTURES = Path(__file__).parent / "fixtures"
TYPES = b"CTcFILSDRO/WVA>KreMNXEpw<ion\0Z"
NUMBERS = (b"0", b"1", b"-1", b"99999", b"9" * 18, b"9" * 40, b" 7 ", b"+5", b"\xd9\xa3", b"1e5", b"")


def _own_file(directory):
    spool = Spool(str(directory))
    spool.make_directories(("incoming",))
    recipients = tuple(NewRecipient(f"r{n}@example.com", f"o{n}@example.com", "rfc822;x@y", n % 8) for n in range(9))
    writer = QueueFileWriter(spool.create(QUEUE_ID))
    message = NewMessage("s@example.com", 10**15, 10**9, recipients, "Name", "8bit", 3, "id", "HDRS", {"a": "b"})
    writer.begin(message)
    writer.write_content(b"Subject: x\n\n" + b"y" * 5000 + b"\n")
    writer.finish([NewRecipient("late@example.com")])
    writer.commit()
    spool.close()
    return (directory / "incoming" / QUEUE_ID).read_bytes()


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    good = [(FIXTURES / name).read_bytes() for name in ("deferred", "null_sender", "maildrop")]
    return [*good, _own_file(tmp_path_factory.mktemp("own"))]


def _record(random):
    data = random.choice(NUMBERS) if random.random() < 0.5 else random.randbytes(random.randrange(12))
    return encode(random.choice([bytes([kind]) for kind in TYPES]), b" ".join([data] * random.randrange(1, 7)))


def _spoil(random, good):
    """A valid file with a few changes, or none of it."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    if random.random() < 0.1:
        return b"".join(_record(random) for _ in range(random.randrange(30)))
    data = bytearray(good)
    for _ in range(random.randrange(1, 4)):
        # mostly in the envelope, and at times in the size record
        end = random.choice((len(data), min(len(data), 100), min(len(data), 600)))
        start = random.randrange(end + 1)
        stop = min(len(data), start + random.randrange(1, 30))
        match random.randrange(6):
            case 0 if start < len(data):
                data[start] = random.randrange(256)
            case 1:
                data[start:start] = _record(random)
            case 2:
                del data[start:]
            case 3:
                del data[start:stop]
            case 4:
                data[start:start] = data[start:stop]
            case _:
                data[start:stop] = random.choice(NUMBERS).ljust(stop - start)
    return _with_size(bytes(data)) if random.random() < 0.7 else bytes(data)


def _with_size(data):
    """The file with a size record that fits, so that what else is wrong is met."""
    start = data.find(b"M\0") + 2
    end = data.rfind(b"X\0", start)
    if data[:1] != b"C" or start < 2 or end < start:
        return data
    size = encode(b"C", b"%15d %15d %15d %15d %15d %15d" % (end - start, start, 9, 0, end - start, 0))
    return size + data[len(size) :]


class World:
    """A queue in which one file after the other is met by all who read files."""

    def __init__(self, spool):
        self.spool = spool
        self.corrupt = []
        self.met = self.understood = 0
        self.active = ActiveQueue(spool, lambda *told: self.corrupt.append(told), lambda _path: None)

    def put(self, queue, queue_id, data):
        path = os.path.join(self.spool.root, queue, queue_id)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o700)
        return path

    def meet(self, data, log):
        """A file, as message and as submission, and a log of the message."""
        path = self.put("incoming", QUEUE_ID, data)
        files = [self.put("maildrop", SUBMISSION_ID, data), self.put("defer", QUEUE_ID, log)]
        self.met += 1
        for page in pages(self.spool):
            assert page.messages
        self.pick_up()
        self.show(path, verbose=False)
        self.show(path, verbose=True)
        self.activate()
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)

    def pick_up(self):
        descriptor = self.spool.open("maildrop", SUBMISSION_ID)
        try:
            submission = pickup._read(descriptor)
            for _ in read_content(descriptor, submission.content_offset):
                pass
        except CorruptFile:
            return
        finally:
            os.close(descriptor)

    def show(self, path, *, verbose):
        flags = Flags()
        flags.body = flags.envelope = flags.header = True
        flags.verbose = flags.offset = flags.decimal = verbose
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with redirect_stderr(io.StringIO()):
                Printer(flags, path, descriptor, io.BytesIO()).print()
        except (CorruptFile, SystemExit):
            return
        finally:
            os.close(descriptor)

    def activate(self):
        """What cannot be understood is in corrupt/, and said to be; what can is delivered, marked and removed."""
        found = self.active.activate("incoming", QUEUE_ID, 10**15, RECIPIENTS)
        if found is None:
            assert self.corrupt.pop()[0] == QUEUE_ID
            place = os.path.join(self.spool.root, "corrupt", QUEUE_ID)
            assert os.stat(place).st_mode & 0o7777 == 0o400
            os.unlink(place)
            return
        self.understood += 1
        file, recipients = found
        offsets = set()
        while recipients and not file.gone:
            new = {recipient.offset for recipient in recipients}
            # No recipient is met twice.
            assert not new & offsets
            offsets |= new
            self.active.mark(file, new)
            recipients = self.active.more_recipients(file, RECIPIENTS) if file.rest else ()
        self.read_content(file)
        if file.gone:
            os.unlink(os.path.join(self.spool.root, "corrupt", QUEUE_ID))
            self.corrupt.clear()
        else:
            self.active.remove(file)
        self.active.forget(file)

    def read_content(self, file):
        if file.gone:
            return
        try:
            with self.active.opened(file) as descriptor:
                for _ in read_content(descriptor, file.envelope.content_offset):
                    pass
        except CorruptFile:
            return


@pytest.mark.system
def test_ten_thousand_broken_files(spool, samples):
    """showq, pickup, postcat and the queue manager meet each: nothing but CorruptFile, and then it is in corrupt/."""
    world = World(spool)

    @settings(max_examples=FILES // 20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64))
    def meet(seed):
        random = Random(seed)
        for _ in range(20):
            world.meet(_spoil(random, random.choice(samples)), _spoil(random, samples[-1]))

    meet()
    world.active.close()
    assert world.met >= FILES
    # Neither all is thrown away nor all is believed.
    assert FILES // 10 < world.understood < FILES * 9 // 10


HEAD = encode(b"T", b"1 1") + encode(b"S", b"s@example.com")
END = encode(b"X", b"") + encode(b"E", b"")


def _circle(count):
    """Pointers that each lead to the next record, and the last one back."""
    return HEAD + encode(b"R", b"r@example.com") * count + encode(b"p", b"0000000000000008") + encode(b"M", b"") + END


def _chain(count):
    """Each record is followed by a pointer to the one before it."""
    size, data = len(encode(b"R", b"a@b") + encode(b"p", b"%015d" % 0)), HEAD
    for number in range(count):
        data += encode(b"R", b"a@b") + encode(b"p", b"%015d" % (len(HEAD) + max(number - 1, 0) * size))
    return data + encode(b"M", b"") + END


LONG_FILES = {
    "recipients": lambda count: HEAD + encode(b"R", b"r@example.com") * count + encode(b"M", b"") + END,
    "originals": lambda count: HEAD + encode(b"O", b"o@example.com") * count + encode(b"M", b"") + END,
    "attributes": lambda count: HEAD + encode(b"A", b"a=b") * count + encode(b"M", b"") + END,
    "empty lines": lambda count: HEAD + encode(b"M", b"") + encode(b"N", b"") * count + END,
    "pieces of a line": lambda count: HEAD + encode(b"M", b"") + encode(b"L", b"x") * count + END,
    "padding": lambda count: HEAD + encode(b"M", b"") + encode(b"w", b"x") * count + END,
    "done": lambda count: HEAD + encode(b"D", b"r@example.com") * count + encode(b"M", b"") + END,
    "circle": _circle,
    "chain": _chain,
}


def _steps(work, monkeypatch):
    """The lines of Python that a piece of work takes, and the bytes that it reads."""
    lines = read = 0
    pread = os.pread

    def counted(*arguments):
        nonlocal read
        data = pread(*arguments)
        read += len(data)
        return data

    def trace(_frame, event, _argument):
        nonlocal lines
        lines += event == "line"
        return trace

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", counted)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
    return lines, read


@pytest.mark.parametrize("kind", LONG_FILES)
def test_twice_the_size_is_twice_the_work(spool, monkeypatch, kind):
    """t(2n) <= 2.5 t(n), in lines of Python and in bytes read, for all who read files."""
    world = World(spool)
    totals = []
    for count in (1500, 3000):
        data = LONG_FILES[kind](count)
        # pickup and the queue manager tell the two formats apart by their first record
        size = b"%15d " * 6 % (0, len(data), count, 0, 0, 0)
        both = data, encode(b"C", size) + data
        steps = [_steps(lambda data=each: world.meet(data, b""), monkeypatch) for each in both]
        totals.append([sum(column) for column in zip(*steps, strict=True)])
    world.active.close()
    (lines, read), (lines_of_twice, read_of_twice) = totals
    assert lines_of_twice <= 2.5 * lines
    assert read_of_twice <= 2.5 * read + 4 * 65536

"""The driver and the check of the power cut test: messages are stored as cleanup and postdrop store them.

Another driver (the real roles, say) takes the same arguments and marks the same names when it has been given its
``250``; ``violations`` is then asked about the spool that it used.
"""

import hashlib
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.maildrop import MaildropWriter, NewSubmission, read_submission
from pyfix.spool.queue_file import NewMessage, NewRecipient, QueueFileWriter, read_envelope
from pyfix.spool.queue_id import QueueIds
from pyfix.spool.record import CorruptFile
from pyfix.system.late_file import LateFile

MESSAGES, PARALLEL = 60, 5
_LINE = b"a line of the message, which is of some length\n"


def _content(number: int) -> bytes:
    size = random.Random(number).choice((1, 20, 80, 500, 3000))
    return b"Subject: %d\n\n" % number + _LINE * size


class Accept:
    """Stores MESSAGES messages, PARALLEL at a time, every third by way of maildrop/; marks each when it is durable."""

    def __init__(self) -> None:
        self._ids = QueueIds()

    def prepare(self, root: Path) -> None:
        """What is done when the system is installed, long before the first message."""
        (root / "spool").mkdir()
        spool = Spool(str(root / "spool"))
        spool.make_directories()
        spool.close()

    def drive(self, root: Path, mark: Callable[[bytes], None]) -> None:
        """Accept the messages."""
        spool = Spool(str(root / "spool"))
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                for done in [pool.submit(self._accept, spool, number, mark) for number in range(MESSAGES)]:
                    done.result()
        finally:
            spool.close()

    def _accept(self, spool: Spool, number: int, mark: Callable[[bytes], None]) -> None:
        now = time.time_ns() // 1000
        queue = "incoming" if number % 3 else "maildrop"
        queue_id = self._ids.new(now)
        late = number % 3 == 1  # as cleanup does
        file = LateFile(spool.path(queue, queue_id), spool.descriptor) if late else spool.create(queue_id, queue)
        writer: QueueFileWriter | MaildropWriter
        if queue == "maildrop":
            writer = MaildropWriter(file)
            writer.begin(NewSubmission("s@example.net", ("r@example.org",), now, 1000))
        else:
            writer = QueueFileWriter(file)
            recipients = (NewRecipient("r@example.org"),)
            writer.begin(NewMessage("s@example.net", now, now // 1_000_000, recipients))
        content = _content(number)
        writer.write_content(content)
        writer.finish()
        name = f"{queue} {queue_id} {hashlib.sha256(content).hexdigest()}".encode()
        self.commit(writer, lambda: mark(name))

    def commit(self, writer: QueueFileWriter | MaildropWriter, acknowledge: Callable[[], None]) -> None:
        """Make it durable, then promise."""
        writer.commit()
        acknowledge()


def violations(root: Path, marks: list[bytes]) -> list[str]:
    """What was promised before the cut and is not there after it, once start-up repair is done."""
    spool = Spool(str(root / "spool"))
    try:
        spool.repair(time.time())
        return [broken for mark in marks if (broken := _broken(spool, *mark.decode().split(" ")))]
    finally:
        spool.close()


def _broken(spool: Spool, queue: str, queue_id: str, digest: str) -> str:
    try:
        descriptor = spool.open(queue, queue_id)
    except FileNotFoundError:
        return f"{queue_id} is lost from {queue}"
    try:
        read = read_submission if queue == "maildrop" else read_envelope
        envelope = read(descriptor)
        content = b"".join(read_content(descriptor, envelope.content_offset))
    except CorruptFile as error:
        return f"{queue_id} is corrupt: {error}"
    finally:
        os.close(descriptor)
    whole = hashlib.sha256(content).hexdigest() == digest and envelope.recipients[0].address == "r@example.org"
    return "" if whole else f"{queue_id} has changed"

"""Looks into a queue and into mailboxes as a crash left them, and tells a ledger what is there."""

import os
import re
import time

from ledger import body_digest, key_of

from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.directories import MESSAGE_QUEUES, Spool
from pyfix.spool.maildrop import read_submission
from pyfix.spool.queue_file import read_envelope
from pyfix.spool.record import CorruptFile


def look_into_queue(root, ledger):
    """Does what qmgr does when it starts, and reads what is there; what is against I6, a line each."""
    spool = Spool(str(root))
    try:
        spool.repair(time.time())
        wrong = []
        for queue in MESSAGE_QUEUES:
            for found in spool.scan(queue):
                if not found.ready:
                    wrong.append(f"I6 {found.path} is left over")
                    continue
                try:
                    content, recipients = _read(spool, queue, found.queue_id)
                except CorruptFile:
                    # qmgr will put it aside; if it was promised, it is missing
                    continue
                ledger.find_queued(content, recipients)
        return wrong
    finally:
        spool.close()


def _read(spool, queue, queue_id):
    """The content, and the recipients that are not done, or whose failure the sender is still to be told of."""
    descriptor = spool.open(queue, queue_id)
    try:
        envelope = (read_submission if queue == "maildrop" else read_envelope)(descriptor)
        content = b"".join(read_content(descriptor, envelope.content_offset))
    finally:
        os.close(descriptor)
    logged = [entry.recipient for entry in log.read(spool, "bounce", queue_id)]
    return content, [*(recipient.address for recipient in envelope.recipients), *logged]


def look_into_maildir(path, ledger):
    """Tells what stands in new/; the keys of what stands in tmp/."""
    for file in path.glob("new/*"):
        ledger.receive(file.read_bytes())
    return {key_of(file.read_bytes()) for file in path.glob("tmp/*")}


def look_into_mbox(path, ledger):
    """Tells what is whole in an mbox file; the wrong parts of it, a line each.

    A part of a message may stand at the end, whose delivery the cut came into. It is no delivery.
    """
    text = path.read_bytes() if path.exists() else b""
    chunks = re.split(rb"(?:\A|\n\n)From [^\n]+\n", text)[1:]
    wrong = [] if not text or text.startswith(b"From ") else [f"I2 {path.name} does not begin with a message"]
    for number, chunk in enumerate(chunks, 1):
        # the blank line behind the last
        whole = chunk.removesuffix(b"\n") if number == len(chunks) else chunk + b"\n"
        if body_digest(whole) == ledger.digests.get(key_of(whole)):
            ledger.receive(whole)
        elif number < len(chunks):
            wrong.append(f"I2 {path.name} has a torn message between others")
    return wrong

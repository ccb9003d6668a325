"""The ledger: what a mail system was given and promised, and what became of it, as seen from outside.

A client notes each message before it is sent, and the answer when it has it; next hosts and mailboxes note what
arrives. Whoever looks into a queue notes what waits there. Then the law can be asked for:

==  ===================================================================================================================
I1  every recipient of an acknowledged message has it, or the sender has a notice about it, or it waits in the queue
I2  its bytes are those that were sent
I3  nobody has it who was not asked for
I4  nobody has it twice, but for messages in flight at a fault
I5  what was refused is not there, but for messages in flight at a fault
I6  no traceback, no message half there, no left-over temporary file
I7  the log tells its story to the end
==  ===================================================================================================================

The ledger shares no code with the system under test.
"""

import collections
import hashlib
import json
import re

_KEY = re.compile(rb"^X-Ledger: ([^\r\n]+)", re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^Delivered-To: ([^\r\n]+)", re.MULTILINE)
_FAILED = re.compile(rb"^Final-Recipient: rfc822; *([^\r\n]+?)\r?\n(?:[^\r\n]+\r?\n)*?Action: failed", re.MULTILINE)


def body_digest(content):
    """The digest of what follows the header, line ends normalised."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]).hexdigest()


def key_of(content):
    """The ledger's key of a message, empty if it has none."""
    found = _KEY.search(content.replace(b"\r\n", b"\n").partition(b"\n\n")[0])
    return found[1].decode() if found else ""


def notice_about(content):
    """The key of the message that a non-delivery notice returns, and the recipients that failed; None for no notice."""
    head = content.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    if b"multipart/report" not in head:
        return None
    key = _KEY.search(content)
    return (key[1].decode(), [found.decode() for found in _FAILED.findall(content)]) if key else None


class Ledger:
    """What is known of messages, by their keys."""

    def __init__(self):
        self._tell = lambda _note: None
        # key -> digest of the body
        self.digests = {}
        # key -> recipients
        self.asked = {}
        self.acknowledged = set()
        self.refused = set()
        # no answer came
        self.uncertain = set()
        # acknowledged key -> queue ID
        self.queue_ids = {}
        # key -> [(digest, recipients)]
        self.arrived = collections.defaultdict(list)
        # key -> recipients that the sender was told of
        self.returned = collections.defaultdict(list)
        # key -> [(digest or None, recipients)]
        self.queued = collections.defaultdict(list)
        # how often there was no connection
        self.turned_away = 0
        # keys of messages under way at a fault: they may arrive twice, and what a refusal of one means nobody knows
        self.in_flight = set()

    def tell(self, listener):
        """``listener`` gets each note of what client and next hosts see as it is made, for another's ``replay``."""
        self._tell = listener

    # What client and next hosts see

    def send(self, key, content, recipients=()):
        """The message is about to be sent. Without ``recipients`` whoever gets it was asked for."""
        self._note("send", key, list(recipients), body_digest(content))

    def acknowledge(self, key, queue_id=""):
        self._note("acknowledge", key, [], queue_id)

    def refuse(self, key):
        self._note("refuse", key, [], "")

    def receive(self, content, recipients=()):
        """Somebody has a message, or a notice; ``recipients`` stand in Delivered-To where they are not given."""
        notice = notice_about(content)
        if notice is not None:
            self._note("return", *notice, "")
            return
        recipients = list(recipients) or [found.decode() for found in _DELIVERED_TO.findall(content)[:1]]
        self._note("arrive", key_of(content), recipients, body_digest(content))

    def _note(self, *note):
        self._enter(*note)
        self._tell(json.dumps(note).encode())

    def replay(self, note):
        """Enters another ledger's note."""
        self._enter(*json.loads(note))

    def _enter(self, what, key, recipients, text):
        if what == "send":
            self.digests[key] = text
            self.uncertain.add(key)
            if recipients:
                self.asked[key] = frozenset(recipients)
        elif what == "acknowledge":
            self.acknowledged.add(key)
            self.uncertain.discard(key)
            self.queue_ids[key] = text
        elif what == "refuse":
            self.refused.add(key)
            self.uncertain.discard(key)
        elif what == "arrive":
            self.arrived[key].append((text, tuple(recipients)))
        else:
            self.returned[key].extend(recipients)

    # What somebody sees who looks into the queue

    def find_queued(self, content, recipients):
        """A message that waits for these recipients; a notice is as good as one that has arrived."""
        notice = notice_about(content)
        if notice is not None:
            self.queued[notice[0]].append((None, tuple(notice[1])))
        else:
            self.queued[key_of(content)].append((body_digest(content), tuple(recipients)))

    # The law

    def missing(self):
        """Acknowledged messages of which nothing has arrived."""
        return self.acknowledged - self.arrived.keys()

    def damaged(self):
        """Messages that arrived otherwise than they were sent."""
        return {k for k, v in self.arrived.items() if any(d != self.digests.get(k) for d, _ in v)}

    def duplicates(self):
        """How often messages arrived more than once."""
        return sum(len(v) - 1 for v in self.arrived.values())

    def has(self, key):
        """The recipients about whom all is well: they have it, the sender has a notice, or it waits for them."""
        places = [recipients for _, recipients in (*self.arrived.get(key, ()), *self.queued.get(key, ()))]
        return {recipient for place in (*places, self.returned.get(key, ())) for recipient in place}

    def settled(self, key):
        """Whether every recipient has it, or the sender a notice."""
        there = {recipient for _, recipients in self.arrived.get(key, ()) for recipient in recipients}
        return self.asked[key] <= there.union(self.returned.get(key, ()))

    def violations(self):
        """What is against I1 to I5, a line each."""
        return [*self._lost(), *self._torn(), *self._astray(), *self._twice(), *self._unasked()]

    def _lost(self):
        for key in sorted(self.acknowledged):
            lost = self.asked[key] - self.has(key)
            if lost:
                yield f"I1 {key} ({self.queue_ids.get(key)}) is lost to {', '.join(sorted(lost))}"

    def _torn(self):
        for found in (self.arrived, self.queued):
            for key, copies in found.items():
                if any(digest not in {None, self.digests.get(key)} for digest, _ in copies):
                    yield f"I2 {key or 'a message without a key'} is not what was sent"

    def _astray(self):
        for key in self.arrived.keys() | self.returned.keys():
            wrong = self.has(key) - self.asked.get(key, frozenset())
            if wrong:
                yield f"I3 {key} went to {', '.join(sorted(wrong))}"

    def _twice(self):
        for key, copies in self.arrived.items():
            times = collections.Counter(recipient for _, recipients in copies for recipient in recipients)
            for recipient, count in times.items():
                if count > 1 and key not in self.in_flight:
                    yield f"I4 {key} came {count} times to {recipient}"

    def _unasked(self):
        for key in sorted(self.refused):
            if self.has(key) and key not in self.in_flight:
                yield f"I5 {key} was refused, and is there"


def log_violations(log):
    """What is against I6 in a log."""
    return [f"I6 {line[:200]}" for line in log.splitlines() if "Traceback" in line or "panic:" in line]


def untold(log, queue_ids, waiting=()):
    """What is against I7: messages that are neither ``waiting`` nor said to be removed."""
    removed = set(re.findall(r": (\w+): removed$", log, re.MULTILINE))
    return [f"I7 {queue_id} has no end in the log" for queue_id in queue_ids if queue_id not in removed | set(waiting)]

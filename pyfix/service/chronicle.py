"""What a message's log lines say, taken together: who sent it, what was tried for each recipient, what came of it.

The lines are those of service/events.py, which are Postfix's.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from pyfix.service.story import Line

RECIPIENTS_LIMIT = 20_000
"""Recipients beyond these are counted, and nothing else is known of them."""

STORY_LIMIT = 200
"""How much of a story's beginning, and of its end, is kept unless all of it is."""

_CLIENT = re.compile(
    r"client=(?P<client>[^,]{1,300})(?:, sasl_method=[^,]{1,100})?(?:, sasl_username=(?P<login>.{1,300}))?"
)
_PICKUP = re.compile(
    r"uid=(?P<uid>[0-9]{1,10}) from=<(?P<sender>.{0,2000}?)>(?: orig_id=(?P<original>[0-9A-Za-z]{6,20}))?"
)
_IDENTIFIER = re.compile(r"(?:resent-)?message-id=(?P<value>.{1,2000})")
_ACTIVE = re.compile(
    r"from=<(?P<sender>.{0,2000}?)>, size=(?P<size>[0-9]{1,18}), nrcpt=(?P<recipients>[0-9]{1,9}) \(queue active\)"
)
_DELIVERY = re.compile(
    r"to=<(?P<recipient>.{0,2000}?)>,(?: orig_to=<(?P<original>.{0,2000}?)>,)? relay=(?P<relay>.{1,400}?),"
    r"(?: conn_use=[0-9]{1,9},)? delay=(?P<delay>[0-9.]{1,20})(?:, delays=(?P<delays>[0-9./]{1,80}))?"
    r"(?:, dsn=(?P<dsn>[0-9.]{1,12}))?, status=(?P<status>[\w-]{1,40}) \((?P<reason>.*)\)",
    re.DOTALL,
)
_NOTICE = re.compile(r"(?P<kind>[a-z -]{1,60} notification): (?P<notice>[0-9A-Za-z]{6,20})")
_NEXT = re.compile(r"(?:forwarded|queued) as ([0-9A-Za-z]{6,20})")


class Attempt(NamedTuple):
    """An attempt to deliver to a recipient."""

    # microseconds since the epoch
    time: int
    recipient: str
    # before aliases; empty where that is the same
    original: str
    relay: str
    # seconds since the arrival, as it was logged
    delay: str
    # before the queue manager, in it, for the connection, for the transmission: a/b/c/d
    delays: str
    # RFC 3463
    dsn: str
    # sent, deferred, bounced and so on
    status: str
    reason: str


class Event(NamedTuple):
    """Something else that happened."""

    # microseconds since the epoch
    time: int
    text: str


class Relative(NamedTuple):
    """Another message that this one came of, or that came of this one."""

    queue_id: str
    # how this one stands to it: "notice of", "requeued as", and so on
    relation: str


class Chronicle:
    """A message. Lines are told in the order of time."""

    def __init__(self, queue_id: str, *, whole: bool = False) -> None:
        self.queue_id = queue_id
        self._whole = whole
        # None until it is known; empty for notices
        self.sender: str | None = None
        self.identifier = ""
        # bytes; recipients when it first became active
        self.size = self.recipient_count = 0
        # where it came from
        self.origin = ""
        # microseconds since the epoch; 0 not known
        self.arrived = self.removed = 0
        # attempts for each recipient, and the last of them
        self.recipients: dict[str, tuple[int, Attempt]] = {}
        # attempts for other recipients
        self.unlisted = 0
        self.relatives: list[Relative] = []
        # how many entries the story has, and its ends
        self.length = 0
        self._first: list[Attempt | Event] = []
        self._last: deque[Attempt | Event] = deque(maxlen=STORY_LIMIT)

    def tell(self, lines: Iterable[Line]) -> None:
        """Takes lines, its own and those of other messages that name it."""
        for line in lines:
            if line.queue_id == self.queue_id:
                self._take(line)
            elif self.queue_id in line.related:
                self._take_relative(line)

    def story(self) -> tuple[list[Attempt | Event], list[Attempt | Event]]:
        """What happened, in its order: the beginning, and the end. Unless it is whole, something may lie between."""
        return self._first, list(self._last)

    def statuses(self) -> dict[str, int]:
        """For how many recipients the last attempt ended how."""
        found: dict[str, int] = {}
        for _, attempt in self.recipients.values():
            found[attempt.status] = found.get(attempt.status, 0) + 1
        return found

    def _take(self, line: Line) -> None:
        self.arrived = self.arrived or line.time
        text = line.message.removeprefix(f"{self.queue_id}: ")
        program = line.program.rpartition("/")[2]
        if match := _DELIVERY.fullmatch(text):
            self._take_attempt(line, match)
        elif match := _ACTIVE.fullmatch(text):
            self._take_active(line, match)
        elif match := _CLIENT.fullmatch(text):
            login = f", logged in as {match['login']}" if match["login"] else ""
            self.origin = self.origin or f"{match['client']}{login}"
            self._happened(line, f"{program}: received from {match['client']}{login}")
        elif match := _PICKUP.fullmatch(text):
            self.sender = match["sender"]
            if match["original"]:
                self._relate(match["original"], "requeued from")
            self.origin = self.origin or f"user {match['uid']} of this machine"
            self._happened(line, f"{program}: submitted by user {match['uid']}")
        elif match := _IDENTIFIER.fullmatch(text):
            self.identifier = match["value"]
        elif match := _NOTICE.fullmatch(text):
            self._relate(match["notice"], match["kind"])
            self._happened(line, f"{match['kind']}: {match['notice']}")
        else:
            if text.startswith("removed"):
                self.removed = line.time
            self._happened(line, text if text == "removed" else f"{program}: {text}")

    def _take_active(self, line: Line, match: "re.Match[str]") -> None:
        self.sender = match["sender"]
        self.size = int(match["size"])
        if not self.recipient_count:
            self.recipient_count = int(match["recipients"])
            self._happened(line, f"qmgr: active, {plural(self.recipient_count, 'recipient')}")

    def _take_attempt(self, line: Line, match: "re.Match[str]") -> None:
        facts = {name: value or "" for name, value in match.groupdict().items()}
        attempt = Attempt(line.time, **facts)
        known = self.recipients.get(attempt.recipient)
        if known or len(self.recipients) < RECIPIENTS_LIMIT:
            self.recipients[attempt.recipient] = (known[0] + 1 if known else 1, attempt)
        else:
            self.unlisted += 1
        self._add(attempt)
        for queue_id in line.related if attempt.status == "sent" else ():
            self._relate(queue_id, "went on as")

    def _take_relative(self, line: Line) -> None:
        text = line.message.removeprefix(f"{line.queue_id}: ")
        if match := _NOTICE.fullmatch(text):
            self._relate(line.queue_id, f"{match['kind']} of")
        elif match := _PICKUP.fullmatch(text):
            self._relate(line.queue_id, "requeued as")
        elif _NEXT.search(text):
            self._relate(line.queue_id, "came on from")

    def _relate(self, queue_id: str, relation: str) -> None:
        if queue_id != self.queue_id and all(known.queue_id != queue_id for known in self.relatives):
            self.relatives.append(Relative(queue_id, relation))

    def _add(self, entry: Attempt | Event) -> None:
        self.length += 1
        (self._first if self._whole or self.length <= STORY_LIMIT else self._last).append(entry)

    def _happened(self, line: Line, text: str) -> None:
        self._add(Event(line.time, text))


def plural(number: int, what: str) -> str:
    """``1 recipient``, ``2,000 recipients``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""What was seen of a host, as text without IDs, times and delays: {(area, name): lines}.

A queue ID becomes the name of its message in the mix; a notice is named for the message that it is about:
``rcpt5-smtp/sender non-delivery 1``.
"""

import json
import re
from collections import Counter, defaultdict

# A long queue ID: seconds and microseconds in base 52, z, an inode number in base 51.
_ID = re.compile(r"\b[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,14}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]{3,10}\b")
_LINE = re.compile(rf"(?:warning: )?({_ID.pattern[2:-2]}): (.*)", re.DOTALL)
_CHILD = re.compile(r"([a-z -]+) notification: (\S+)")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_RULES = [
    (re.compile(r"\bdelay=[\d.]+, delays=[\d./]+"), "delay=D, delays=D"),
    (re.compile(rf"\w{{3}}, +\d+ {_MONTH} 20(?!24)\d\d \d\d:\d\d:\d\d [+-]\d{{4}}( \(\w+\))?"), "DATE"),
    (re.compile(rf"\w{{3}} {_MONTH} [ \d]\d \d\d:\d\d:\d\d( 20\d\d)?"), "TIME"),
    (re.compile(r"<\d{14}\."), "<TIME."),
    (re.compile(r"(message size )\d+(?= exceeds)"), r"\1N"),
    (re.compile(r"\b(\w*client_port=)\d+"), r"\1PORT"),
    # mail_owner
    (re.compile(r"\b(uid=|userid )(?:100|9\d\d)\b"), r"\1OWNER"),
    (re.compile(r"(\"arrival_time\": )\d+"), r"\1TIME"),
    (re.compile(r"(?<=\.)\d{10}(?=/mail\.here\.example)"), "TIME"),
    (re.compile(r"^(\*\*\* [A-Z ]+ \w+/)\w/", re.MULTILINE), r"\1"),
]


class Normal:
    """One host's record, made comparable."""

    def __init__(self, seen, messages):
        self._seen = seen
        self._names = {}
        # queue IDs of notices, of messages with a Message-ID made of theirs, and of those that were requeued
        self._sizeless = set()
        self._name_messages(messages)
        self._name_notices()

    def _name_messages(self, messages):
        known = {message.name for message in messages}
        for name, answers in self._seen.answers.items():
            for answer in answers:
                if found := re.search(r"queued as (\S+)", answer):
                    self._names[found[1]] = name
        for _, text in self._seen.log:
            said = re.match(rf"({_ID.pattern}): (?:resent-)?(?:message-id=|uid=\d+ from=)<(?:r\.)?([^@>]+)@", text)
            if said and said[2] in known:
                self._names.setdefault(said[1], said[2])

    def _name_notices(self):
        counts = Counter()
        for _, text in self._seen.log:
            line = _LINE.match(text)
            child = line and _CHILD.match(line[2])
            if child:
                name = f"{self._names.get(line[1], line[1])}/{child[1]}"
                counts[name] += 1
                self._names[child[2]] = f"{name} {counts[name]}"
            if line and (child or line[2].startswith(f"message-id=<{line[1]}@") or " orig_id=" in line[2]):
                self._sizeless.add(child[2] if child else line[1])

    def text(self, text):
        """Text without what differs anyway."""
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return _ID.sub(lambda found: self._names.get(found[0], "UNKNOWN-ID"), text)

    def _size(self, queue_id, size):
        """A message's size without the length of its ID, which is in its Received header; at times in more places."""
        return "SIZE" if queue_id in self._sizeless else str(int(size) - len(queue_id))

    def observations(self):
        found = {}
        for name, answers in self._seen.answers.items():
            found["answer", name] = [self.text(answer) for answer in answers]
        found |= self._log()
        for when in self._seen.queue:
            found |= self._queue(when) | self._mailq(when) | self._records(when)
        for what, said in self._seen.commands.items():
            found["command", what] = [self.text(text) for text in said]
        return found | self._arrived()

    def _log(self):
        stories, others = defaultdict(list), defaultdict(list)
        for program, text in self._seen.log:
            if line := _LINE.match(text):
                size = re.sub(r"(?<=, size=)\d+", lambda found, line=line: self._size(line[1], found[0]), text)
                stories[line[1]].append(f"{program}: {self.text(size)}")
            else:
                others[program].append(f"{program}: {self.text(text)}")
        found = defaultdict(list)
        for queue_id, lines in stories.items():
            found["log", self._name(queue_id)] += ordered(lines)
        found |= self._ledger()
        for program, lines in others.items():
            found["log without message", program] = [f"{n} x {line}" for line, n in sorted(Counter(lines).items())]
        return found

    def _ledger(self):
        """What became of each message's recipients at last."""
        ledger = defaultdict(dict)
        for _, text in self._seen.log:
            if fate := re.match(rf"({_ID.pattern}): to=<(.*?)>,.*? status=([a-z]+) ", text):
                ledger[self._name(fate[1])][fate[2]] = fate[3]
        return {
            ("ledger", name): sorted(f"{recipient}: {status}" for recipient, status in fates.items())
            for name, fates in ledger.items()
        }

    def _queue(self, when):
        found = {}
        for line in self._seen.queue[when].splitlines():
            entry = json.loads(line)
            size = self._size(entry["queue_id"], entry["message_size"])
            text = line.replace(f'"message_size": {entry["message_size"]}', f'"message_size": {size}')
            found[f"queue {when}", self._name(entry["queue_id"])] = self.text(text).replace(", ", ",\n").split("\n")
        return found

    def _name(self, queue_id):
        return self._names.get(queue_id, "UNKNOWN-ID")

    def _mailq(self, when):
        found = {}
        first, *messages = self._seen.mailq[when].split("\n\n")
        head, _, first = first.partition("\n")
        for text in [first, *messages]:
            if line := re.match(rf"({_ID.pattern})([*!#]?) +(\d+)", text):
                size = self._size(line[1], line[3])
                rest = text[line.end() :]
                found[f"mailq {when}", self._name(line[1])] = self.text(f"{line[1]}{line[2]} {size}{rest}").split("\n")
            else:
                found[f"mailq {when}", "head and end"] = [head, re.sub(r"\d+ Kbytes", "N Kbytes", text)]
        return found

    def _records(self, when):
        found = {}
        for queue_id, text in self._seen.records[when].items():
            lines = self.text(text).split("\n")
            for number, line in enumerate(lines):
                if line.startswith("message_size:"):
                    _, _, _, recipients, flags, _, *more = line.split()
                    lines[number] = f"message_size: SIZE OFFSET {recipients} {flags} SIZE {' '.join(more)}"
            found[f"postcat {when}", self._name(queue_id)] = lines
        return found

    def _arrived(self):
        found = defaultdict(list)
        for entry in self._seen.arrived:
            mail = re.sub(r" SIZE=\d+", " SIZE=N", self.text(entry["mail"]))
            recipients = [self.text(recipient) for recipient in entry["recipients"]]
            ends = [re.search(r"<.*?>(?= |$)", line)[0] for line in [mail, *sorted(recipients)]]
            content = by_destination(self.text(entry["content"].replace("\r\n", "\n")))
            found["next hop", " ".join(ends)[:150]].append("\n".join([mail, *recipients, content]))
        for user, messages in self._seen.mailboxes.items():
            for text in messages:
                lines = self.text(text).split("\n")
                subject = next((line for line in lines if line.startswith("Subject:")), "")
                found[f"mailbox {user}", f"{lines[0]} {subject}"].append("\n".join(lines))
        return {key: "\n".join(sorted(texts)).split("\n") for key, texts in found.items()}


def by_destination(text):
    """A notice whose recipients stand in the order of their domains; those of one domain keep their own."""
    paragraphs = text.split("\n\n")
    for first in (r"<(?:.*)@(.*?)>[: ]", r"Final-Recipient: .*@(.*)"):
        found = [(match[1], place) for place, part in enumerate(paragraphs) if (match := re.match(first, part))]
        sorted_paragraphs = [paragraphs[place] for _, place in sorted(found)]
        for (_, place), paragraph in zip(found, sorted_paragraphs, strict=True):
            paragraphs[place] = paragraph
    return "\n\n".join(paragraphs)


def ordered(lines):
    """A story in which deliveries at one time, which may come in any order, stand in one; each domain keeps its own."""
    result, deliveries = [], []
    for line in lines:
        if re.match(r"\w+: [^ ]+( [a-z]+)?: to=<", line) or ": to=<" in line:
            deliveries.append(line)
        else:
            result += sorted(deliveries, key=_destination)
            deliveries = []
            result.append(line)
    return result + sorted(deliveries, key=_destination)


def _destination(line):
    program = line.partition(":")[0]
    recipient = re.search(r": to=<(.*?)>,", line)[1]
    return program, recipient if program == "local" else recipient.rpartition("@")[2].lower()

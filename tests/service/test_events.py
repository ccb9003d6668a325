"""The log lines are Postfix's; their fields tell the same; the catalog explains each kind."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from pyfix.service import events
from pyfix.service.delivery import Deliver, Outcome, Recipient
from pyfix.system import journal

ROOT = Path(__file__).parents[2]
CATALOG = (ROOT / "packaging/pyfix.catalog").read_text()
QUEUE_ID = "4dVBkT0Qz8z1"
DELAYS = (0.01, 0, 0.2, 1.234)


def delivery(status, dsn="2.0.0", reason="250 ok", original="", **more):
    return events.delivery(
        QUEUE_ID, "s@e.example", "a@b.example", original, "mx[192.0.2.1]:25", DELAYS, dsn, status, reason, **more
    )


# An event of each kind, with the fields that it must have.
CLIENT = {"PYFIX_CLIENT_NAME": "n", "PYFIX_CLIENT_ADDRESS": "192.0.2.1"}
OWN = {"PYFIX_QUEUE_ID": QUEUE_ID}
DELIVERY = OWN | {
    "PYFIX_SENDER": "s@e.example", "PYFIX_RECIPIENT": "a@b.example", "PYFIX_RELAY": "mx[192.0.2.1]:25",
    "PYFIX_DELAY_USEC": "1444000",
}  # fmt: skip
REJECT = events.reject(
    "NOQUEUE", "RCPT", "n", "192.0.2.1", "554 5.7.1 <b@y>: Relay access denied",
    {"from": "a@x", "to": "b@y", "proto": "ESMTP", "helo": "h"},
)  # fmt: skip
REJECTED = {"PYFIX_QUEUE_ID": "NOQUEUE", "PYFIX_SENDER": "a@x", "PYFIX_RECIPIENT": "b@y", "PYFIX_DSN": "5.7.1"}
EXAMPLES = {
    "ACTIVE": (events.queue_active(QUEUE_ID, "s", 300, 1), OWN | {"PYFIX_SENDER": "s"}),
    "BOUNCED": (delivery("bounced", "5.1.1"), DELIVERY | {"PYFIX_STATUS": "bounced", "PYFIX_DSN": "5.1.1"}),
    "BROKEN_OFF": (events.broken_off(QUEUE_ID, "timeout", "RCPT", "n", "192.0.2.1"), OWN | CLIENT),
    "BUG": None,
    "CANCELED": (events.canceled(QUEUE_ID), OWN),
    "CONFIGURATION_KEPT": (events.configuration_kept("why"), {"PYFIX_REASON": "why"}),
    "CONFIGURATION_REFUSED": (events.configuration_refused("why"), {"PYFIX_REASON": "why"}),
    "CONNECTED": (events.connected("n", "192.0.2.1"), CLIENT),
    "CORRUPT": (events.corrupt(QUEUE_ID, "active", "cut"), OWN | {"PYFIX_REASON": "active: cut"}),
    "DEFERRED": (delivery("deferred", "4.4.1"), DELIVERY | {"PYFIX_STATUS": "deferred", "PYFIX_DSN": "4.4.1"}),
    "DELIVERED": (delivery("sent"), DELIVERY | {"PYFIX_STATUS": "sent", "PYFIX_DSN": "2.0.0"}),
    "DISCONNECTED": (events.disconnected("n", "192.0.2.1", "quit=1 commands=1"), CLIENT),
    "EXPIRED": (events.expired(QUEUE_ID, "s"), OWN | {"PYFIX_SENDER": "s", "PYFIX_STATUS": "expired"}),
    "IDENTIFIED": (events.message_id(QUEUE_ID, "<a@b>"), OWN),
    "LOST_LINES": None,
    "NOTICE": (events.notice(QUEUE_ID, "sender non-delivery notification", "B1"), OWN | {"PYFIX_RELATED_ID": "B1"}),
    "NO_SPACE": (events.no_space("1 bytes < 2"), {"PYFIX_REASON": "1 bytes < 2"}),
    "PROBED": (
        delivery("undeliverable", "5.1.1"),
        DELIVERY | {"PYFIX_STATUS": "undeliverable", "PYFIX_DSN": "5.1.1"},
    ),
    "PIPELINED": (events.pipelined("DATA", "x", "n", "192.0.2.1"), CLIENT),
    "RECEIVED": (events.client(QUEUE_ID, "n", "192.0.2.1"), OWN | CLIENT),
    "REJECTED": (REJECT, REJECTED | CLIENT),
    "REMOVED": (events.removed(QUEUE_ID), OWN),
    "REQUEUED": (
        events.requeued(QUEUE_ID, 7, "s", "B1"),
        OWN | {"PYFIX_SENDER": "s", "PYFIX_UID": "7", "PYFIX_RELATED_ID": "B1"},
    ),
    "SUBMITTED": (events.pickup(QUEUE_ID, 7, "s"), OWN | {"PYFIX_SENDER": "s", "PYFIX_UID": "7"}),
    "UNUSABLE": (events.unusable("why"), {"PYFIX_REASON": "why"}),
}


def message_ids():
    """The MESSAGE_IDs that the modules define, by name."""
    found = {}
    for module in (events, journal):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Assign) and re.fullmatch(r"'[0-9a-f]{32}'", ast.unparse(node.value)):
                found[node.targets[0].id] = node.value.value
    return found


def catalog():
    """The catalog's entries by MESSAGE_ID: their headers, and their text."""
    entries = {}
    for entry in re.split(r"^-- ", CATALOG, flags=re.MULTILINE)[1:]:
        message_id, _, rest = entry.partition("\n")
        head, _, text = rest.partition("\n\n")
        entries[message_id] = (dict(line.split(": ", 1) for line in head.split("\n")), text)
    return entries


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example])
def test_fields(name):
    event, fields = EXAMPLES[name]
    assert (event.message_id, event.fields) == (message_ids()[name], fields)


def test_an_example_stands_here_for_each_kind():
    assert set(EXAMPLES) == set(message_ids())


def test_the_catalog_has_an_entry_for_each_kind_and_no_other():
    ids = message_ids()
    assert len(set(ids.values())) == len(ids)
    assert set(catalog()) == set(ids.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_entry_says_something_and_fills_in_only_fields_that_are_there(name):
    headers, text = catalog()[message_ids()[name]]
    assert list(headers) == ["Subject", "Defined-By", "Support", "Documentation"]
    assert len(text) > 80
    used = set(re.findall(r"@([A-Z_]+)@", headers["Subject"] + text))
    known = set(EXAMPLES[name][1]) if EXAMPLES[name] else {"PYFIX_LOST_LINES"}
    assert used <= known


def test_the_manuals_that_the_catalog_names_are_there():
    own = {f"{path.stem}({section}pyfix)" for folder, section in (("roles", 8), ("commands", 1))
           for path in (ROOT / "pyfix" / folder).glob("[a-z]*.py")}  # fmt: skip
    own |= {"pyfix-journal(7pyfix)", "systemd-journald.service(8)"}
    for headers, _ in catalog().values():
        names = f"{headers['Documentation']} {headers['Support']}".split()
        assert {name.removeprefix("man:") for name in names} <= own


def test_the_manual_names_each_field():
    used = set(re.findall(r'"(PYFIX_[A-Z_]+)"', inspect.getsource(events) + inspect.getsource(journal)))
    told = set(re.findall(r"^    (PYFIX_\w+) ", events.__doc__, re.MULTILINE))
    assert told == used - {"PYFIX_LOG"}


def test_the_guide_says_the_same():
    guide = (ROOT / "docs/journal.md").read_text().replace("`", "")
    table = dict(re.findall(r"^\| ([A-Z_]+) \| (.+?) \|$", guide, re.MULTILINE))
    manual = dict(re.findall(r"^    ([A-Z_]+)  +(.+)$", events.__doc__, re.MULTILINE))
    assert table.keys() == manual.keys()
    assert all(manual[name].startswith(meaning) for name, meaning in table.items())
    assert set(re.findall(r"\b[0-9a-f]{32}\b", guide)) <= set(message_ids().values())


def test_delivery():
    event = delivery("sent", original="c@b.example", connection_use=3)
    assert event.message == (
        f"{QUEUE_ID}: to=<a@b.example>, orig_to=<c@b.example>, relay=mx[192.0.2.1]:25, conn_use=3, "
        "delay=1.4, delays=0.01/0/0.2/1.2, dsn=2.0.0, status=sent (250 ok)"
    )
    assert event.fields["PYFIX_ORIGINAL_RECIPIENT"] == "c@b.example"


@pytest.mark.parametrize(
    ("status", "reason", "related"),
    [("sent", "250 2.0.0 Ok: queued as 4dVBkT2XY2z7", "4dVBkT2XY2z7"),
     ("sent", "forwarded as 4dVBkT2XY2z7", "4dVBkT2XY2z7"),
     ("sent", "250 2.0.0 Ok: queued as a-thing/of.its=own", None),
     ("sent", "delivered to maildir", None),
     ("bounced", "550 queued as 4dVBkT2XY2z7", None)],
)  # fmt: skip
def test_the_next_hosts_name_for_a_message(status, reason, related):
    assert delivery(status, reason=reason).fields.get("PYFIX_RELATED_ID") == related


def test_what_recipients_of_one_delivery_share_shows_in_no_other():
    """Two deliveries are logged in turns: each line has its own delays, and its own next host's answer."""
    begun = 1_700_000_000_000_000

    def line(name, queue_id, times, reason):
        request = Deliver(queue_id, 0, 0, 9, "smtp", "b.example", "s@e.example", (), begun, begun + 10_000)
        event = events.outcome(
            request, Recipient(5, name), Outcome(5, "sent", "2.0.0", reason, "mx[192.0.2.1]:25"), times
        )
        return event.message, event.fields["PYFIX_DELAY_USEC"], event.fields.get("PYFIX_RELATED_ID")

    one = ("4dVBkT0Qz8z1", (begun + 10_000, begun + 210_000, begun + 1_444_000), "250 queued as 4dVBkT2XY2z7")
    two = ("4dVBkT0Qz8z2", (begun + 30_000, begun + 20_000, begun + 10_030_000), "250 ok")
    ends = {
        one: ("delay=1.4, delays=0.01/0/0.2/1.2", "1444000", "4dVBkT2XY2z7"),
        two: ("delay=10, delays=0.01/0.02/0/10", "10040000", None),
    }
    for name, of in [("a", one), ("b", one), ("c", two), ("d", one), ("e", two), ("f", two)]:
        delays, usec, related = ends[of]
        start = f"{of[0]}: to=<{name}@b.example>, relay=mx[192.0.2.1]:25"
        expected = (f"{start}, {delays}, dsn=2.0.0, status=sent ({of[2]})", usec, related)
        assert line(f"{name}@b.example", *of) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.004, "0"), (0.012, "0.01"), (0.2, "0.2"), (0.999, "1"), (1.25, "1.2"), (9.94, "9.9"), (9.96, "10"),
     (13.4, "13"), (123, "120"), (3678, "3700")],
)  # fmt: skip
def test_delays_have_two_significant_digits(seconds, text):
    assert events.format_delay(seconds) == text


def test_reject():
    assert REJECT.message == (
        "NOQUEUE: reject: RCPT from n[192.0.2.1]: 554 5.7.1 <b@y>: Relay access denied; "
        "from=<a@x> to=<b@y> proto=ESMTP helo=<h>"
    )

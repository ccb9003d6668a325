import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.spool import census
from pyfix.spool.census import Counted
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.queue_file import QueueFileWriter, mark_done
from pyfix.spool.record import encode

ID = "4jXZ1m485RzD2qY"
SECOND = 1_000_000
SIZE = b"%15d %15d %15d %15d %15d %15d" % (0, 0, 0, 0, 0, 0)


def write(spool, *recipients, sender="s@Example.COM", content=b"line\n", late=(), queue="incoming"):
    writer = QueueFileWriter(spool.create(ID, queue))
    writer.begin(NewMessage(sender, 1000 * SECOND, 1000, tuple(map(NewRecipient, recipients))))
    writer.write_content(content)
    writer.finish(map(NewRecipient, late))
    writer.commit()


def count(spool, queue="incoming"):
    errors = []
    found = [census.count(name, directory) for directory, name in census.walk(f"{spool.root}/{queue}", errors.append)]
    assert errors == []
    return found


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        (b"a@Example.COM", b"example.com"), (b"a@b@c.example", b"c.example"), (b"", b"MAILER-DAEMON"),
        (b"Root", b"root"), (b"a@", b""), (b"a@b.example.", b"b.example"), (b"a@.b.example", b"b.example"),
        (b"a@b..example", b"b.example"), (b"a@.", b"."), (b"a@..", b"."), (b"a@[192.0.2.1]", b"[192.0.2.1]"),
        (b"a@\xc3\x84.example", b"\xc3\x84.example"),
    ],
)  # fmt: skip
def test_domains_are_counted_without_what_says_nothing(address, domain):
    assert census.domain_of(address) == domain


def test_recipients_before_and_behind_the_content_count_by_domain(spool):
    write(spool, "a@x.example", "b@X.example", late=["c@y.example"], content=b"E\n" * 100_000)
    assert count(spool) == [Counted(1000, b"example.com", {b"x.example": 2, b"y.example": 1})]


def test_who_is_served_does_not_count(spool):
    write(spool, "a@x.example", "b@x.example", sender="")
    path = spool.find("incoming", ID)
    with os.fdopen(os.open(f"{spool.root}/{path}", os.O_RDWR), "r+b") as file:
        offset = file.read().index(encode(b"R", b"a@x.example"))
        mark_done(file.fileno(), offset)
        assert count(spool) == [Counted(1000, b"MAILER-DAEMON", {b"x.example": 1})]
        file.seek(0)
        mark_done(file.fileno(), file.read().index(encode(b"R", b"b@x.example")))
        assert count(spool) == [None]


def test_messages_in_subdirectories_are_found(spool):
    write(spool, "a@x.example", queue="deferred")
    assert len(count(spool, "deferred")) == 1


@pytest.mark.parametrize(
    ("mode", "counts"), [(0o700, True), (0o744, True), (0o600, False), (0o710, False), (0o702, False), (0o400, False)]
)
def test_only_whole_messages_count(spool, mode, counts):
    write(spool, "a@x.example")
    os.chmod(f"{spool.root}/incoming/{ID}", mode)
    assert [found is not None for found in count(spool)] == [counts]


HEAD = encode(b"S", b"s@x") + encode(b"R", b"r@y")


@pytest.mark.parametrize(
    ("records", "arrival"),
    [
        (HEAD + encode(b"M", b"") + encode(b"N", b"l") + encode(b"X", b"") + encode(b"E", b""), 77),
        (encode(b"T", b"5 1") + HEAD + encode(b"M", b"") + encode(b"X", b"") + encode(b"E", b""), 5),
        (HEAD + encode(b"E", b""), 77),
        (HEAD + encode(b"M", b"") + encode(b"N", b"l") + encode(b"E", b""), None),
        (HEAD + encode(b"M", b"") + encode(b"X", b""), None),
        (encode(b"S", b"s@x") + encode(b"M", b"") + encode(b"X", b"") + encode(b"E", b""), None),
        (encode(b"C", SIZE) + HEAD + encode(b"M", b"") + encode(b"X", b"") + encode(b"E", b""), None),
        (encode(b"R", b"r@y") + HEAD + encode(b"E", b""), None),
        (encode(b"F", b"name") + encode(b"R", b"r@y") + encode(b"E", b""), None),
        (b"", None),
        (b"Subject: x\n\nno queue file\n", None),
        (HEAD + b"N\xff\xff\xff\xff\xff\x01", None),
        (HEAD + encode(b"p", b"0") + encode(b"p", b"%d" % len(HEAD)) + encode(b"E", b""), None),
    ],
    ids=["maildrop", "with time", "no content", "no X", "no E", "no recipient", "no time", "recipient first",
         "no sender", "empty", "text", "endless length", "circle"],
)  # fmt: skip
def test_what_postdrop_writes_and_what_is_no_message(spool, records, arrival):
    path = f"{spool.root}/maildrop/{ID}"
    with open(path, "wb") as file:
        file.write(records)
    os.chmod(path, 0o700)
    os.utime(path, (77, 77))
    assert count(spool, "maildrop") == [arrival and Counted(arrival, b"x", {b"y": 1})]


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_are_trouble(tmp_path_factory, noise, where):
    whole = encode(b"C", SIZE) + encode(b"T", b"5") + HEAD + encode(b"M", b"") + encode(b"X", b"") + encode(b"E", b"")
    path = tmp_path_factory.getbasetemp() / "NOISE1"
    path.write_bytes(whole[:where] + noise + whole[where:])
    path.chmod(0o700)
    found = census.count(str(path), 0)
    assert found is None or sum(found.domains.values()) > 0


def test_links_pipes_and_other_names_are_passed_over(spool, tmp_path):
    write(spool, "a@x.example")
    os.symlink(f"{spool.root}/incoming/{ID}", f"{spool.root}/active/{ID}")
    os.symlink(f"{spool.root}/incoming", f"{spool.root}/active/a")
    os.mkfifo(f"{spool.root}/active/ABCDEF12", 0o700)
    os.link(f"{spool.root}/incoming/{ID}", f"{spool.root}/active/{ID}.tmp")
    os.link(f"{spool.root}/incoming/{ID}", f"{spool.root}/active/SHORT")
    assert count(spool, "active") == [None, None]


def test_what_cannot_be_looked_into_is_told(spool):
    errors = []
    assert list(census.walk(f"{spool.root}/none", errors.append)) == []
    os.symlink("incoming", f"{spool.root}/link")
    assert list(census.walk(f"{spool.root}/link", errors.append)) == []
    assert [type(error) for error in errors] == [FileNotFoundError, NotADirectoryError]


def test_many_recipients_of_few_domains_need_little_memory(spool):
    write(spool, *(f"recipient{number}@d{number % 3}.example" for number in range(50_000)))
    tracemalloc.start()
    (found,) = count(spool)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(found.domains.values()) == 50_000
    assert peak < 1_000_000

"""What a disk holds after a cut, and where cuts are made."""

import random

from durability.power import Event, _Image, _points, _survivors
from durability.strace import Place, Strace, spread


def write(offset, data, disk=0):
    return Event("write", disk, offset, data)


FLUSH, MARK = Event("flush", 0, 0, b""), Event("mark", 0, 0, b"{}")


def after_cut(tmp_path, events, survivors):
    image = _Image(tmp_path / "disk", 8192)
    for event in events:
        image.tell(event)
    image.copy(tmp_path / "copy", survivors(image.pending))
    image.close()
    return (tmp_path / "copy").read_bytes()


def test_what_was_flushed_is_there_and_what_was_not_may_be(tmp_path):
    events = [write(0, b"first"), FLUSH, write(0, b"again"), write(4096, b"second")]
    lost = after_cut(tmp_path, events, lambda _: [])
    assert (lost[:5], lost[4096:4102]) == (b"first", bytes(6))
    kept = after_cut(tmp_path, events, lambda pending: pending)
    assert (kept[:5], kept[4096:4102], len(kept)) == (b"again", b"second", 8192)


def test_survivors_are_blocks():
    pending = [write(0, bytes(4096 * 64))]
    assert _survivors(pending, "none", random.Random(1)) == []
    assert _survivors(pending, "all", random.Random(1)) == pending
    some = _survivors(pending, "some", random.Random(1))
    assert 10 < len(some) < 54
    assert {len(event.data) for event in some} == {4096}


def test_cuts_are_after_marks_and_elsewhere_and_after_each_flush_of_all():
    events = [MARK, *[write(0, b"x"), MARK, write(0, b"y"), FLUSH] * 50, Event("mark", 0, 0, b"flushed")]
    points = _points(events, 0, 40, random.Random(1))
    assert len(events) in points
    assert len(points) == 40
    assert points == sorted(points)
    after_marks = [point for point in points if events[point - 1].kind == "mark"]
    assert 20 <= len(after_marks) < 40


def test_a_spread_has_both_ends():
    assert spread([1, 2], 5) == [1, 2]
    assert spread(list(range(101)), 5) == [0, 25, 50, 75, 100]


def test_places_are_counted_for_each_thread(tmp_path):
    output = tmp_path / "calls"
    output.write_text(
        "7  read(3, ...\n7  fsync(4) = 0\n8  read(3) = 1\n7  <... read resumed>\n7  read(3) = 0\n"
        "8  +++ exited with 0 +++\n"
    )
    assert Strace([], output).places() == [Place("read", 1), Place("fsync", 1), Place("read", 2)]

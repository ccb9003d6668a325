"""The active queue."""

import fcntl
import os

import pytest

from pyfix.spool import active
from pyfix.spool.active import ActiveQueue, AlreadyRunning
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.log import LogEntry, addition, read
from pyfix.spool.queue_file import QueueFileWriter

NOW = 1_795_364_681


@pytest.fixture
def corrupt():
    return []


@pytest.fixture
def bogus():
    return []


@pytest.fixture
def queue(spool, corrupt, bogus):
    queue = ActiveQueue(spool, lambda *told: corrupt.append(told), bogus.append)
    yield queue
    queue.close()


def put(spool, number, *addresses, queue="incoming", mtime=NOW):
    queue_id = f"{0x10000 + number:X}ABCDEF"
    writer = QueueFileWriter(spool.create(queue_id, queue))
    recipients = tuple(map(NewRecipient, addresses or ("bob@example.com",)))
    writer.begin(
        NewMessage(sender="ada@example.org", arrival_usec=NOW * 1_000_000, create_time=NOW, recipients=recipients)
    )
    writer.write_content(b"x\n")
    writer.finish()
    writer.commit()
    spool.set_retry_time(queue, queue_id, mtime)
    return queue_id


def activate(queue, queue_id, source="incoming", limit=100):
    return queue.activate(source, queue_id, NOW * 1_000_000 + 5, limit)


def queues_of(spool, queue_id):
    return spool.queue_of(queue_id, ("incoming", "active", "deferred", "corrupt"))


def test_activate_moves_and_reads(spool, queue):
    queue_id = put(spool, 1, "a@b", "c@d", "e@f")
    file, recipients = activate(queue, queue_id, limit=2)
    assert queues_of(spool, queue_id) == "active"
    assert [r.address for r in recipients] == ["a@b", "c@d"]
    assert (file.envelope.sender, file.envelope.recipients, file.active_usec) == (
        "ada@example.org",
        (),
        NOW * 1_000_000 + 5,
    )
    assert [r.address for r in queue.more_recipients(file, 100)] == ["e@f"]
    assert file.rest == 0


def test_a_file_whose_sync_is_under_way_is_left_alone(spool, queue):
    """Visible is not durable: it is taken when its writer has let go of it."""
    queue_id = put(spool, 1)
    writing = spool.open("incoming", queue_id, write=True)
    fcntl.flock(writing, fcntl.LOCK_EX)
    assert activate(queue, queue_id) is None
    assert queues_of(spool, queue_id) == "incoming"
    os.close(writing)
    assert activate(queue, queue_id) is not None


@pytest.fixture
def nobody(spool):
    """Acts as another user than root, who owns the queue."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    for path in (spool.root, *(entry.path for entry in os.scandir(spool.root))):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(("mode", "reason"), [(0o700, "Permission denied"), (0o744, "it belongs to user 0")])
def test_files_of_somebody_else_stay_and_are_told_once(spool, corrupt, bogus, nobody, mode, reason):
    os.seteuid(0)
    queue_id, other = put(spool, 1), put(spool, 2)
    os.chmod(spool.path("incoming", queue_id), mode, dir_fd=spool.descriptor)
    os.chown(spool.path("incoming", other), 65534, 65534, dir_fd=spool.descriptor)
    os.seteuid(65534)
    queue = ActiveQueue(spool, lambda *told: corrupt.append(told), bogus.append)
    for _ in range(2):
        assert activate(queue, queue_id) is None
    assert activate(queue, other) is not None
    assert queues_of(spool, queue_id) == "incoming"
    assert (corrupt, bogus) == ([], [f"incoming/{queue_id}: {reason}"])
    queue.close()


def test_directories_of_somebody_else_are_told_once(spool, bogus, nobody):
    os.seteuid(0)
    put(spool, 1, queue="deferred", mtime=NOW - 5)
    os.chmod("deferred/1", 0o700, dir_fd=spool.descriptor)
    os.seteuid(65534)
    queue = ActiveQueue(spool, lambda *_: None, bogus.append)
    for _ in range(2):
        assert list(filter(None, queue.due("deferred", NOW, lambda *_: None))) == []
    assert bogus == ["deferred/1"]
    queue.close()


def test_what_is_not_there_is_no_message(spool, queue):
    unfinished = spool.create("10009ABCDEF")
    assert activate(queue, "10009ABCDEF") is None
    assert activate(queue, "10008ABCDEF") is None
    unfinished.abort()


def test_a_first_attempt_needs_no_look_for_logs(spool, queue):
    file, _ = activate(queue, put(spool, 1))
    assert not file.tried_before


def test_a_defer_log_is_forgotten_when_the_next_attempt_begins(spool, queue):
    queue_id = put(spool, 1, queue="deferred", mtime=NOW + 300)
    addition(spool, "defer", queue_id, [LogEntry("bob@example.com", 0, "4.0.0", "no", "delayed")]).commit()
    addition(spool, "bounce", queue_id, [LogEntry("eve@example.com", 0, "5.0.0", "no", "failed")]).commit()
    file, _ = activate(queue, queue_id, "deferred")
    assert list(read(spool, "defer", queue_id)) == []
    assert file.notice_due
    assert queue.has_log(file, "bounce")


def test_marks(spool, queue):
    queue_id = put(spool, 1, "a@b", "c@d")
    file, recipients = activate(queue, queue_id)
    queue.mark(file, [recipients[0].offset])
    queue.defer(file, NOW + 300)
    queue.forget(file)
    file, recipients = activate(queue, queue_id, "deferred")
    assert [r.address for r in recipients] == ["c@d"]
    assert file.tried_before


def test_a_finished_file_is_no_message_and_goes_at_the_next_start(spool, queue):
    queue_id = put(spool, 1, "a@b", "c@d")
    file, _ = activate(queue, queue_id)
    queue.finish(file)
    assert spool.queue_of(queue_id) is None
    queue.repair(NOW + 1)
    assert not any(os.listdir(f"{spool.root}/{name}") for name in ("incoming", "active"))


def test_a_finished_file_is_removed(spool, queue, monkeypatch):
    monkeypatch.setattr(active, "_KEPT_LIMIT", 0)
    file, _ = activate(queue, put(spool, 1))
    queue.finish(file)
    queue.forget(file)
    queue.remove(file)
    assert os.listdir(f"{spool.root}/active") == []


def test_what_somebody_took_cannot_be_finished(spool, queue, monkeypatch):
    monkeypatch.setattr(active, "_KEPT_LIMIT", 0)
    file, _ = activate(queue, put(spool, 1))
    os.unlink(f"{spool.root}/active/{file.queue_id}")
    queue.finish(file)
    assert file.gone


def test_a_mark_where_no_recipient_is_makes_the_file_corrupt(spool, queue, corrupt):
    queue_id = put(spool, 1)
    file, _ = activate(queue, queue_id)
    queue.mark(file, [0])
    assert queues_of(spool, queue_id) is None
    assert os.path.exists(f"{spool.root}/corrupt/{queue_id}")
    assert file.gone
    assert [(told[0], told[1]) for told in corrupt] == [(queue_id, "active")]


def test_a_corrupt_file_is_put_aside(spool, queue, corrupt):
    queue_id = put(spool, 1)
    os.truncate(f"{spool.root}/incoming/{queue_id}", 150)
    assert activate(queue, queue_id) is None
    assert os.stat(f"{spool.root}/corrupt/{queue_id}").st_mode & 0o777 == 0o400
    assert [(told[0], told[1]) for told in corrupt] == [(queue_id, "incoming")]


def test_descriptors_are_bounded(spool, queue, monkeypatch):
    monkeypatch.setattr(active, "_KEPT_LIMIT", 3)
    before = len(os.listdir("/proc/self/fd"))
    files = [activate(queue, put(spool, n))[0] for n in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before + 3
    for file in files:
        with queue.opened(file) as descriptor:
            assert os.pread(descriptor, 1, 0) == b"C"
    assert len(os.listdir("/proc/self/fd")) == before + 3
    for file in files:
        queue.remove(file)
        queue.forget(file)
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(f"{spool.root}/active") == []


def test_the_descriptor_cannot_write(spool, queue):
    file, _ = activate(queue, put(spool, 1))
    with queue.opened(file) as descriptor, pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)


def test_a_file_that_somebody_took_is_gone(spool, queue, monkeypatch):
    monkeypatch.setattr(active, "_KEPT_LIMIT", 0)
    file, recipients = activate(queue, put(spool, 1))
    os.unlink(f"{spool.root}/active/{file.queue_id}")
    with pytest.raises(FileNotFoundError), queue.opened(file):
        pass
    assert file.gone
    addition(spool, "defer", file.queue_id, [LogEntry("bob@example.com", 0, "4.0.0", "no", "delayed")]).commit()
    queue.mark(file, [recipients[0].offset])
    queue.defer(file, NOW)
    queue.forget(file)
    assert list(read(spool, "defer", file.queue_id)) == []


def test_the_scan_tells_what_is_due_and_what_comes_later(spool, queue):
    due = put(spool, 1, queue="deferred", mtime=NOW)
    later = put(spool, 2, queue="deferred", mtime=NOW + 300)
    appointments = []
    found = [queue_id for queue_id in queue.due("deferred", NOW, lambda *when: appointments.append(when)) if queue_id]
    assert found == [due]
    assert appointments == [(later, NOW + 300)]
    assert set(queue.due("deferred", float("inf"), lambda *_: None)) == {due, later}


def test_the_scan_lets_others_go_on(spool, queue):
    for number in range(5):
        put(spool, number, mtime=NOW + 300)
    assert list(queue.due("incoming", NOW, lambda *_: None)) == [""]


def test_what_is_no_file_is_told_once(spool, queue, bogus):
    os.mkfifo(f"{spool.root}/incoming/10001ABCDEF")
    for _ in range(2):
        assert list(queue.due("incoming", NOW, lambda *_: None)) == []
    assert bogus == ["incoming/10001ABCDEF"]


def test_there_is_one_queue_manager(spool, queue):
    with pytest.raises(AlreadyRunning):
        ActiveQueue(spool, lambda *_: None, lambda _: None)
    queue.close()
    again = ActiveQueue(spool, lambda *_: None, lambda _: None)
    queue._lock = os.dup(again._lock)
    again.close()

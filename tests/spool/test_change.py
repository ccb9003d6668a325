from pathlib import Path

import pytest

from pyfix.spool import change

FIRST, SECOND = "4jXZ1m485RzD2qY", "4jXZ1m485RzD2qZ"


@pytest.fixture
def put(spool):
    def put(queue, queue_id=FIRST):
        file = spool.create(queue_id, queue)
        file.commit()

    return put


def _places(spool, queue_id=FIRST):
    return [queue for queue in (*change.MESSAGE_QUEUES, *change.LOG_QUEUES) if spool.find(queue, queue_id)]


@pytest.mark.parametrize("queue", change.DELETE_QUEUES)
def test_delete_removes_message_and_logs(spool, put, queue):
    for place in (queue, "defer", "bounce"):
        put(place)
    assert change.delete(spool, FIRST)
    assert _places(spool) == []
    assert not change.delete(spool, FIRST)


def test_logs_without_a_message_are_left_alone(spool, put):
    put("defer")
    assert not change.delete(spool, FIRST)
    assert _places(spool) == ["defer"]


@pytest.mark.parametrize(
    ("action", "queue", "target"),
    [
        ("hold", "incoming", "hold"),
        ("hold", "active", "hold"),
        ("hold", "deferred", "hold"),
        ("release", "hold", "deferred"),
        ("requeue", "hold", "maildrop"),
        ("requeue", "incoming", "maildrop"),
        ("requeue", "active", "maildrop"),
        ("requeue", "deferred", "maildrop"),
    ],
)
def test_moves_leave_the_logs(spool, put, action, queue, target):
    put(queue)
    put("defer")
    act, queues = change.ACTIONS[action]
    assert act(spool, FIRST, queues)
    assert sorted(_places(spool)) == sorted(["defer", target])


@pytest.mark.parametrize(("action", "queue"), [("hold", "maildrop"), ("hold", "hold"), ("release", "deferred")])
def test_queues_that_the_action_does_not_concern(spool, put, action, queue):
    """Mail in maildrop is not sanitised: it must not get among what is."""
    put(queue)
    act, _ = change.ACTIONS[action]
    assert not act(spool, FIRST, change.MESSAGE_QUEUES)
    assert _places(spool) == [queue]


def test_only_the_named_queues_are_searched(spool, put):
    put("deferred")
    assert not change.delete(spool, FIRST, ["hold", "incoming"])
    assert change.delete(spool, FIRST, ["hold", "deferred"])


def test_a_requeued_message_is_due_now(spool, put):
    put("deferred")
    spool.set_retry_time("deferred", FIRST, 4_000_000_000)
    assert change.requeue(spool, FIRST)
    (found,) = spool.scan("maildrop")
    assert found.mtime < 4_000_000_000


def test_messages_that_are_being_written_are_not_touched(spool):
    with spool.create(FIRST):
        assert not change.delete(spool, FIRST)
        assert list(change.messages_of(spool, "delete")) == []
        assert (Path(spool.root) / "incoming" / FIRST).exists()


def test_all_messages(spool, put):
    put("deferred", FIRST)
    put("hold", SECOND)
    assert sorted(change.messages_of(spool, "delete")) == [FIRST, SECOND]
    assert list(change.messages_of(spool, "hold")) == [FIRST]
    assert list(change.messages_of(spool, "delete", ["hold"])) == [SECOND]
    assert list(change.messages_of(spool, "release", ["deferred"])) == []


def test_what_is_no_queue_id_is_an_error(spool):
    for act, queues in change.ACTIONS.values():
        with pytest.raises(ValueError, match="queue ID"):
            act(spool, "../../etc/passwd", queues)

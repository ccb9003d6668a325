import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.spool.queue_id import QueueIds, hash_key, is_long, is_queue_id, time_of

# Made by Postfix 3.10, with the time of the queue file's T record and its subdirectory of deferred/.
POSTFIX_ID = "4jXZ1m485RzD2qY"
NOW = 1_795_364_156_037_280


def test_ids_have_postfix_form_and_hold_the_time():
    queue_id = QueueIds(pid=1234).new(NOW)
    assert is_queue_id(queue_id)
    assert is_long(queue_id)
    assert time_of(queue_id) == NOW
    assert queue_id.startswith("4jXZ1m")
    assert len(queue_id) <= 17


def test_postfix_ids_are_read():
    assert is_queue_id(POSTFIX_ID)
    assert time_of(POSTFIX_ID) // 1_000_000 == NOW // 1_000_000
    assert hash_key(POSTFIX_ID)[0] == "8"


def test_short_ids_are_read():
    assert is_queue_id("0A1B2C3D4E")
    assert not is_long("0A1B2C3D4E")
    assert hash_key("0A1B2C3D4E")[0] == "0"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a/b", "../../etc/passwd", "4jXZ1m485RzD2qY/", "4jXZ1m485RzD2qY\n", "4jXZ1m485Rz", "zzzz",
     "4jXZ1m485RzD2qz", "4aeiou485RzD2qY", "0A1B", "0a1b2c3d4e", "0" * 40, "4" * 100_000, "4jXZ1m485R\0zD2qY",
     "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669\u0660z1"],
)  # fmt: skip
def test_hostile_names_are_no_queue_ids(text):
    assert not is_queue_id(text)


@given(st.text())
def test_a_queue_id_is_letters_and_digits(text):
    if is_queue_id(text):
        assert text.isascii()
        assert text.isalnum()


def test_ids_of_one_process_sort_and_never_repeat():
    """Also when the clock stands still or goes back."""
    ids = QueueIds(pid=1)
    made = [ids.new(NOW - index // 2) for index in range(2000)]
    assert made == sorted(set(made))


def test_ids_of_two_processes_differ_at_the_same_instant():
    first, second = QueueIds(pid=4_194_303), QueueIds(pid=4_194_302)
    assert not {first.new(NOW) for _ in range(1000)} & {second.new(NOW) for _ in range(1000)}


def test_time_of_a_short_id_is_an_error():
    with pytest.raises(ValueError, match="long queue ID"):
        time_of("0A1B2C3D4E")


@given(st.integers(0, 2**62), st.integers(1, 2**22))
def test_any_time_and_process_give_a_valid_id(now, pid):
    queue_id = QueueIds(pid).new(now)
    assert is_queue_id(queue_id)
    assert time_of(queue_id) == max(now, 1)

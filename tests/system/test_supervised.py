import errno
import signal

import pytest

from pyfix.conf.unit import Command
from pyfix.conf.unit_kinds import ServiceUnit
from pyfix.system.supervised import NEVER, Service

EXIT_0, EXIT_1 = 0, 1 << 8
KILL = signal.SIGKILL


class World:
    """Hands that write down what they did."""

    def __init__(self, **unit):
        self.done = []
        self.left = False
        self.refuse = False
        self.next_pid = 100
        self.service = Service(ServiceUnit(name="x.service", command=Command("", ("/x",)), **unit), self)

    def spawn(self, service):
        if self.refuse:
            raise OSError(errno.EAGAIN, "no")
        self.next_pid += 1
        self.done.append(("spawn", self.next_pid))
        return self.next_pid

    def send(self, pid, number):
        self.done.append((signal.Signals(number).name, pid))

    def send_to_group(self, pid, number):
        self.done.append((signal.Signals(number).name, -pid))

    def group_is_empty(self, pid):
        return not self.left

    def changed(self, service):
        pass

    def end(self, now, status):
        """The process ends and nothing is left of its group."""
        self.service.exited(now, status)
        self.service.tick(now)

    def spawned(self):
        return sum(what == "spawn" for what, _ in self.done)


def test_a_notify_service_is_active_when_it_says_so():
    world = World(type="notify")
    world.service.start(0)
    assert (world.service.state, world.service.startable) == ("starting", False)
    world.service.notify(1, {"READY": "1", "STATUS": "well"})
    assert (world.service.state, world.service.status, world.service.deadline) == ("active", "well", NEVER)


def test_a_service_that_does_not_become_ready_is_ended_and_restarted():
    world = World(type="notify", timeout_start_sec=10, timeout_stop_sec=5, restart="on-failure", restart_sec=1)
    world.service.start(0)
    world.service.tick(9.9)
    assert world.service.state == "starting"
    world.service.tick(10)
    assert (world.service.state, world.done[-1]) == ("stopping", ("SIGTERM", -101))
    world.service.tick(15)
    assert world.done[-1] == ("SIGKILL", -101)
    world.end(15, KILL)
    assert (world.service.state, world.service.result) == ("waiting", "timeout")
    world.service.tick(16)
    assert (world.service.state, world.service.restarts) == ("starting", 1)


@pytest.mark.parametrize(
    ("restart", "restarts_after"),
    [
        ("no", ""),
        ("always", "0 1 TERM KILL"),
        ("on-success", "0 TERM"),
        ("on-failure", "1 KILL"),
        ("on-abnormal", "KILL"),
        ("on-abort", "KILL"),
        ("on-watchdog", ""),
    ],
)
def test_restart_policies(restart, restarts_after):
    """The table of systemd.service(5)."""
    found = []
    for name, status in (("0", EXIT_0), ("1", EXIT_1), ("TERM", signal.SIGTERM), ("KILL", KILL)):
        world = World(restart=restart)
        world.service.start(0)
        world.end(1, status)
        if world.service.state == "waiting":
            found.append(name)
    assert " ".join(found) == restarts_after


def test_a_status_that_prevents_a_restart_keeps_triggers_off_too_for_a_while():
    world = World(restart="on-failure", restart_sec=1, restart_prevented=frozenset({78}))
    world.service.start(0)
    world.end(1, 78 << 8)
    assert (world.service.state, world.service.result, world.service.startable) == ("failed", "exit-code", False)
    world.service.tick(60)
    assert not world.service.startable
    world.service.tick(61)
    assert (world.service.startable, world.spawned()) == (True, 1)
    world.service.start(61)
    world.end(62, EXIT_1)
    assert world.service.state == "waiting"


def test_a_reload_lets_a_service_be_started_that_a_status_has_kept_off():
    world = World(restart="on-failure", restart_prevented=frozenset({78}))
    world.service.start(0)
    world.end(1, 78 << 8)
    world.service.reload()
    assert (world.service.startable, world.spawned()) == (True, 1)


def test_a_service_that_is_kept_off_does_not_hold_up_the_end():
    world = World(restart="on-failure", restart_prevented=frozenset({78}))
    world.service.start(0)
    world.end(1, 78 << 8)
    world.service.stop(2)
    assert world.service.ended


@pytest.mark.parametrize(
    ("status", "state", "result"),
    [(EXIT_0, "inactive", "success"), (EXIT_1, "failed", "exit-code"), (KILL, "failed", "signal")],
)
def test_without_restart_its_triggers_may_start_it_again(status, state, result):
    world = World()
    world.service.start(0)
    world.end(1, status)
    assert (world.service.state, world.service.result, world.service.startable) == (state, result, True)
    assert world.service.inactive_since == 1


def test_a_core_dump_is_a_signal():
    world = World()
    world.service.start(0)
    world.end(1, signal.SIGABRT | 0x80)
    assert world.service.result == "signal"


def test_a_oneshot_may_remain_active():
    world = World(type="oneshot", remain_after_exit=True)
    world.service.start(0)
    assert (world.service.state, world.service.deadline) == ("starting", NEVER)
    world.end(1, EXIT_0)
    assert (world.service.state, world.service.startable, world.service.ended) == ("exited", False, True)


def test_the_watchdog_ends_a_service_that_is_silent():
    world = World(type="notify", watchdog_sec=10, timeout_stop_sec=5, restart="on-watchdog")
    world.service.start(0)
    world.service.notify(1, {"READY": "1"})
    world.service.notify(9, {"WATCHDOG": "1"})
    world.service.tick(18.9)
    assert world.service.state == "active"
    world.service.tick(19)
    assert world.done[-1] == ("SIGABRT", -101)
    world.service.tick(24)
    assert world.done[-1] == ("SIGKILL", -101)
    world.end(24, KILL)
    assert (world.service.state, world.service.result) == ("waiting", "watchdog")


def test_reload_reaches_a_running_service_and_waits_for_a_starting_one():
    world = World(type="notify", reloads=True)
    world.service.reload()
    world.service.start(0)
    world.service.reload()
    assert world.done == [("spawn", 101)]
    world.service.notify(1, {"READY": "1"})
    assert world.done[1:] == [("SIGHUP", 101)]
    world.service.notify(2, {"RELOADING": "1"})
    assert world.service.state == "reloading"
    world.service.notify(3, {"READY": "1"})
    assert (world.service.state, world.done[1:]) == ("active", [("SIGHUP", 101)])


def test_a_service_without_exec_reload_gets_no_signal():
    world = World()
    world.service.start(0)
    world.service.reload()
    assert world.done == [("spawn", 101)]


def test_a_stopped_service_stays_down():
    world = World(restart="always", timeout_stop_sec=5)
    world.service.start(0)
    world.service.stop(1)
    assert (world.service.state, world.done[-1]) == ("stopping", ("SIGTERM", -101))
    world.end(2, EXIT_0)
    assert (world.service.state, world.service.ended) == ("inactive", True)


def test_mixed_mode_asks_the_main_process_and_kills_what_it_leaves():
    world = World(kill_mode="mixed")
    world.service.start(0)
    world.service.stop(1)
    world.left = True
    world.service.exited(2, EXIT_0)
    assert world.done[1:] == [("SIGTERM", 101), ("SIGKILL", -101)]
    world.service.tick(2)
    assert (world.service.state, world.service.down) == ("clearing", False)
    world.left = False
    world.service.tick(world.service.deadline)
    assert world.service.state == "inactive"


def test_what_a_dead_service_leaves_is_asked_and_then_killed():
    world = World(timeout_stop_sec=5, restart="always")
    world.service.start(0)
    world.left = True
    world.service.exited(1, KILL)
    assert world.done[-1] == ("SIGTERM", -101)
    now = 1
    while world.done[-1] != ("SIGKILL", -101):
        now = max(now, world.service.deadline)
        world.service.tick(now)
    assert now == pytest.approx(6, abs=0.1)
    world.left = False
    world.service.tick(world.service.deadline)
    assert world.service.state == "waiting"


def test_the_start_limit_holds_back_until_its_interval_is_over():
    world = World(restart="on-failure", restart_sec=0.5, start_limit_interval_sec=10, start_limit_burst=3)
    world.service.start(0)
    for _ in range(2):
        world.end(world.service.deadline if world.service.deadline != NEVER else 0, EXIT_1)
        world.service.tick(world.service.deadline)
    world.end(2, EXIT_1)
    world.service.tick(3)
    assert (world.service.state, world.service.result, world.service.startable) == ("failed", "start-limit", False)
    assert (world.spawned(), world.service.deadline) == (3, 10)
    world.service.tick(10)
    assert (world.spawned(), world.service.state) == (4, "active")


def test_restarts_come_later_and_later_until_something_else_starts_it():
    steps = {"restart_sec": 0.1, "restart_steps": 2, "restart_max_delay_sec": 10}
    world = World(restart="on-failure", start_limit_interval_sec=0, **steps)
    world.service.start(0)
    pauses, now = [], 0
    for _ in range(4):
        world.end(now, EXIT_1)
        pauses.append(world.service.deadline - now)
        now = world.service.deadline
        world.service.tick(now)
    assert pauses == pytest.approx([0.1, 1, 10, 10])
    world.end(now, EXIT_0)
    world.service.start(now)
    world.end(now, EXIT_1)
    assert world.service.deadline - now == pytest.approx(0.1)


def test_a_trigger_that_starts_a_service_again_and_again_is_held_back_even_without_a_start_limit():
    world = World(start_limit_interval_sec=0)
    for count in range(20):
        world.service.start(count / 100)
        world.end(count / 100, EXIT_0)
    world.service.start(0.5)
    assert (world.spawned(), world.service.deadline) == (20, 2.0)
    world.service.tick(2.0)
    assert (world.spawned(), world.service.startable) == (20, True)


def test_a_stop_ends_the_waiting_for_a_restart():
    world = World(restart="always", restart_sec=100)
    world.service.start(0)
    world.end(1, KILL)
    world.service.stop(2)
    assert (world.service.state, world.service.ended) == ("inactive", True)


def test_a_process_that_cannot_be_made_is_a_failure_to_try_again():
    world = World(restart="on-failure", restart_sec=1)
    world.refuse = True
    world.service.start(0)
    assert (world.service.state, world.service.result) == ("waiting", "resources")
    world.refuse = False
    world.service.tick(1)
    assert world.service.state == "active"


def test_an_old_notification_does_not_disturb_a_stop():
    world = World(type="notify")
    world.service.start(0)
    world.service.stop(1)
    world.service.notify(2, {"READY": "1"})
    assert world.service.state == "stopping"

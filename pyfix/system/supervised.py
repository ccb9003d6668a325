"""One service under ``pyfix up``: a machine over its process, driven by exits, notifications and time.

    inactive   its sockets, timers and paths may start it
    starting   Type=notify: until READY=1
    active     (reloading: from RELOADING=1 or SIGHUP to READY=1)
    stopping   a signal was sent; SIGKILL follows when TimeoutStopSec= is over
    clearing   the main process is gone, others of its group are being removed
    waiting    Restart= applies: until RestartSec= is over
    exited     RemainAfterExit=: the process is gone, the service counts as active
    failed     the process failed and Restart= does not apply; sockets, timers and paths may start it

    inactive|failed|exited|waiting --start--> starting|active --exit--> clearing --empty--> inactive|failed|...
    starting|active --stop, time-out, watchdog--> stopping --exit--> clearing

Where systemd gives a service up (the start limit, the trigger limit), this machine waits until the limit's interval is
over: there is nobody to reset it. After an exit status of RestartPreventExitStatus= it waits as long as Postfix's
master does with a command that does not start (service_throttle_time), or until a reload.
Source: systemd.service(5), "Exit causes and effect of the Restart= settings".
"""

import signal
from collections import deque
from collections.abc import Mapping
from typing import Literal, Protocol

from pyfix.conf.unit_kinds import ServiceUnit

State = Literal["inactive", "starting", "active", "reloading", "stopping", "clearing", "waiting", "exited", "failed"]
Result = Literal["success", "exit-code", "signal", "timeout", "watchdog", "start-limit", "resources"]

NEVER = float("inf")

_CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
_RESTARTS: dict[str, tuple[Result, ...]] = {
    "no": (),
    "always": ("success", "exit-code", "signal", "timeout", "watchdog", "resources"),
    "on-success": ("success",),
    "on-failure": ("exit-code", "signal", "timeout", "watchdog", "resources"),
    "on-abnormal": ("signal", "timeout", "watchdog"),
    "on-abort": ("signal",),
    "on-watchdog": ("watchdog",),
}
# systemd's TriggerLimitIntervalSec= and TriggerLimitBurst=
_TRIGGER_LIMIT = (2.0, 20)
_CLEARING_POLL = 0.02
_THROTTLE_TIME = 60.0


class Hands(Protocol):
    """What a service's machine can do to the world."""

    def spawn(self, service: "Service") -> int:
        """Starts the process: its ID. Raises OSError."""

    def send(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to the main process."""

    def send_to_group(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to all that is left of a main process's group."""

    def group_is_empty(self, pid: int) -> bool:
        """Whether nothing is left of it."""

    def changed(self, service: "Service") -> None:
        """The service's state has changed."""


class Service:
    """A service's state. All times are seconds of one monotonic clock, passed in."""

    def __init__(self, unit: ServiceUnit, hands: Hands) -> None:
        self.unit = unit
        self.state: State = "inactive"
        self.result: Result = "success"
        self.pid = 0
        # what the service says of itself
        self.status = ""
        self.restarts = 0
        # when tick() has something to do
        self.deadline = NEVER
        # when the service last became inactive
        self.inactive_since = NEVER
        self._hands = hands
        self._group = 0
        self._starts: deque[float] = deque(maxlen=max(unit.start_limit_burst, _TRIGGER_LIMIT[1]))
        self._stop_wanted = False
        self._reload_wanted = False
        self._kill_at = NEVER
        # since something else than Restart= started it
        self._restarts_in_a_row = 0
        # the last exit status rules a restart out
        self.held = False

    @property
    def startable(self) -> bool:
        """Whether sockets, timers and paths may start it now."""
        return self.state in ("inactive", "failed") and self.deadline == NEVER

    @property
    def down(self) -> bool:
        """Whether nothing of it runs."""
        return self.state in ("inactive", "failed", "exited", "waiting")

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs, and nothing is due to."""
        return self.down and self.deadline == NEVER

    def start(self, now: float) -> None:
        """Starts it, or lets it wait when it was started too often."""
        if not self.down:
            return
        if self.state != "waiting":
            self._restarts_in_a_row = 0
        if (allowed := self._allowed_at(now)) > now:
            self._enter("failed", "start-limit")
            self.deadline = allowed
            self._hands.changed(self)
            return
        self._starts.append(now)
        self._stop_wanted = self._reload_wanted = self.held = False
        self.status = ""
        try:
            self.pid = self._group = self._hands.spawn(self)
        except OSError:
            self._finish(now, "resources")
            return
        if self.unit.type in ("notify", "oneshot"):
            self._enter("starting", "success")
            self.deadline = NEVER if self.unit.type == "oneshot" else now + self.unit.timeout_start_sec
        else:
            self._become_active(now)
        self._hands.changed(self)

    def _allowed_at(self, now: float) -> float:
        """When the limits allow a start: now, or later."""
        allowed = now
        own = (self.unit.start_limit_interval_sec, self.unit.start_limit_burst)
        for interval, burst in (own, _TRIGGER_LIMIT):
            if interval > 0 and burst > 0 and len(self._starts) >= burst:
                allowed = max(allowed, self._starts[-burst] + interval)
        return allowed

    def notify(self, now: float, fields: Mapping[str, str]) -> None:
        """What the main process said through its notify socket."""
        self.status = fields.get("STATUS", self.status)
        if self.state not in ("starting", "active", "reloading"):
            return
        if fields.get("RELOADING") == "1" and self.state == "active":
            self._enter("reloading", self.result)
            self.deadline = now + self.unit.timeout_start_sec
        elif fields.get("READY") == "1" and self.state != "active":
            self._become_active(now)
        elif fields.get("WATCHDOG") == "1" and self.state == "active":
            self.deadline = self._watchdog(now)
        self._hands.changed(self)

    def _become_active(self, now: float) -> None:
        self._enter("active", "success")
        self.deadline = self._watchdog(now)
        if self._reload_wanted:
            self.reload()

    def _watchdog(self, now: float) -> float:
        return now + self.unit.watchdog_sec if self.unit.watchdog_sec else NEVER

    def reload(self) -> None:
        """Sends SIGHUP; to one that is starting, when it is ready: before that the signal would end it."""
        self._reload_wanted = self.state == "starting" and self.unit.reloads
        if self.state == "active" and self.unit.reloads:
            self._hands.send(self.pid, signal.SIGHUP)
        if self.held and self.state == "failed":
            self.deadline = NEVER
            self._hands.changed(self)

    def stop(self, now: float) -> None:
        """Ends it for good: no restart follows."""
        self._stop_wanted = True
        if self.state in ("starting", "active", "reloading"):
            self._terminate(now, signal.SIGTERM, "success")
        elif self.down:
            self._enter("inactive", self.result)
        self._hands.changed(self)

    def kill(self) -> None:
        """Ends it at once."""
        self._stop_wanted = True
        if self._group:
            self._hands.send_to_group(self._group, signal.SIGKILL)

    def _terminate(self, now: float, number: signal.Signals, result: Result) -> None:
        self._enter("stopping", result)
        self.deadline = now + self.unit.timeout_stop_sec
        if self.unit.kill_mode == "mixed":
            self._hands.send(self.pid, number)
        else:
            self._hands.send_to_group(self._group, number)

    def exited(self, now: float, status: int) -> None:
        """The main process ended, with a wait status. The caller reaps it after this call."""
        if self.state != "stopping" or self.result == "success":
            self.result = self._result_of(status)
            self.held = self.result == "exit-code" and status >> 8 in self.unit.restart_prevented
        self.pid = 0
        first = signal.SIGKILL if self.unit.kill_mode == "mixed" else signal.SIGTERM
        self._hands.send_to_group(self._group, first)
        self._kill_at = now + self.unit.timeout_stop_sec
        self._enter("clearing", self.result)
        self.deadline = now

    def _result_of(self, status: int) -> Result:
        # A wait status: the exit code in the second byte, the signal in the low seven bits of the first.
        number = status & 0x7F
        if number:
            return "success" if number in _CLEAN_SIGNALS else "signal"
        return "exit-code" if status >> 8 else "success"

    def tick(self, now: float) -> None:
        """Does what is due."""
        if now < self.deadline:
            return
        match self.state:
            case "starting" | "reloading":
                self._terminate(now, signal.SIGTERM, "timeout")
            case "active":
                self._terminate(now, signal.SIGABRT, "watchdog")
            case "stopping":
                self.result = self.result if self.result == "watchdog" else "timeout"
                self._hands.send_to_group(self._group, signal.SIGKILL)
                self.deadline = now + self.unit.timeout_stop_sec
            case "clearing":
                self._clear(now)
            case "waiting":
                self.deadline = NEVER
                self.restarts += 1
                self._restarts_in_a_row += 1
                self.start(now)
                return
            case "failed":
                self._retry(now)
                return
        self._hands.changed(self)

    def _clear(self, now: float) -> None:
        if self._hands.group_is_empty(self._group):
            self._group = 0
            self._finish(now, self.result)
            return
        if now >= self._kill_at:
            self._hands.send_to_group(self._group, signal.SIGKILL)
        self.deadline = now + _CLEARING_POLL

    def _finish(self, now: float, result: Result) -> None:
        """All of it is gone: what comes next."""
        self.inactive_since = now
        if self._stop_wanted:
            self._enter("inactive", result)
        elif self.held:
            self._enter("failed", result)
            self.deadline = now + _THROTTLE_TIME
        elif result in _RESTARTS[self.unit.restart]:
            self._enter("waiting", result)
            self.deadline = now + self.unit.pause(self._restarts_in_a_row)
        elif result != "success":
            self._enter("failed", result)
        else:
            self._enter("exited" if self.unit.remain_after_exit else "inactive", result)
        self._hands.changed(self)

    def _retry(self, now: float) -> None:
        """The start limit's interval is over, or the time after a status that rules a restart out."""
        self.deadline = NEVER
        if self.unit.restart == "no" or self.held:
            self._hands.changed(self)  # whoever triggered it may do so again
        else:
            self.start(now)

    def _enter(self, state: State, result: Result) -> None:
        self.state, self.result, self.deadline = state, result, NEVER

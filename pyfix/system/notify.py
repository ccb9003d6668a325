"""What a service tells systemd about itself: readiness, reload, status, and that it is alive.

Without a NOTIFY_SOCKET all of this is silent. Source: sd_notify(3).
"""

import os
import time

from systemd import daemon


def ready(status: str = "") -> None:
    """The service is up, or has finished its reload."""
    _notify("READY=1", f"STATUS={status}")


def reloading() -> None:
    """A reload has begun."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """The end has begun: connections are being drained."""
    _notify("STOPPING=1")


def status(text: str) -> None:
    """One line for ``systemctl status``."""
    _notify(f"STATUS={text}")


def alive() -> None:
    """The watchdog's sign of life."""
    _notify("WATCHDOG=1")


def watchdog_interval() -> float:
    """Seconds between signs of life that systemd asks for, halved for safety; 0 for none."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    wanted = usec.isascii() and usec.isdigit() and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(usec) / 2_000_000 if wanted else 0.0


def _notify(*lines: str) -> None:
    if "NOTIFY_SOCKET" in os.environ:
        daemon.notify("\n".join(lines))

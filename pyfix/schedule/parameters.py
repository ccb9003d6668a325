"""The parameters of main.cf that rule the schedule."""

from pyfix.conf.config import Config
from pyfix.schedule.destination import Concurrency, Feedback, parse_feedback
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.routing import Router
from pyfix.schedule.scheduler import SchedulerLimits
from pyfix.schedule.transport import TransportLimits

_FEEDBACK_SUFFIXES = ("_concurrency_positive_feedback", "_concurrency_negative_feedback")


class Parameters:
    """One reading of main.cf. Raises ConfigError."""

    def __init__(self, conf: Config) -> None:
        self._conf = conf
        self._transports: dict[str, TransportLimits] = {}
        for name in ("default_destination" + suffix for suffix in _FEEDBACK_SUFFIXES):
            _feedback(conf, name)
        for name in conf.names_set():
            if name.endswith(_FEEDBACK_SUFFIXES):
                _feedback(conf, name)
        self.retries = RetrySchedule(
            minimal_backoff_time=conf.seconds("minimal_backoff_time"),
            maximal_backoff_time=conf.seconds("maximal_backoff_time"),
            maximal_queue_lifetime=conf.seconds("maximal_queue_lifetime"),
            bounce_queue_lifetime=conf.seconds("bounce_queue_lifetime"),
        )
        self.limits = SchedulerLimits(
            active_limit=conf.integer("qmgr_message_active_limit"),
            recipient_limit=conf.integer("qmgr_message_recipient_limit"),
            transport_retry_time=conf.seconds("transport_retry_time"),
            minimal_backoff_time=conf.seconds("minimal_backoff_time"),
        )
        self.queue_run_delay = conf.seconds("queue_run_delay")
        self.router = Router(conf.text("recipient_delimiter"), conf.text("double_bounce_sender"))

    def transport(self, name: str) -> TransportLimits:
        """What holds for one transport, whether main.cf names it or not."""
        limits = self._transports.get(name)
        if limits is None:
            limits = self._transports[name] = self._read_transport(name)
        return limits

    def _read_transport(self, name: str) -> TransportLimits:
        conf = self._conf
        return TransportLimits(
            Concurrency(
                initial=conf.service_integer("initial_destination_concurrency", name),
                limit=conf.service_integer("destination_concurrency_limit", name),
                positive=_feedback(conf, f"{name}_destination_concurrency_positive_feedback"),
                negative=_feedback(conf, f"{name}_destination_concurrency_negative_feedback"),
                failed_cohort_limit=conf.service_integer("destination_concurrency_failed_cohort_limit", name),
            ),
            recipient_limit=conf.service_integer("destination_recipient_limit", name),
            process_limit=conf.integer("default_process_limit"),
        )


def _feedback(conf: Config, name: str) -> Feedback:
    try:
        return parse_feedback(conf.text(name))
    except ValueError as error:
        raise conf.error(name, str(error), "a number from 0 to 1, or 1/concurrency") from None

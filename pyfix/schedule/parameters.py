"""The parameters of main.cf that rule the schedule."""

from pyfix.conf.config import Config
from pyfix.schedule.feedback import parse_feedback
from pyfix.schedule.limits import Concurrency, Recipients, SchedulerLimits, Slots, TransportLimits
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.routing import Router

_FEEDBACKS = ("destination_concurrency_positive_feedback", "destination_concurrency_negative_feedback")


class Parameters:
    """One reading of main.cf. Raises ConfigError."""

    def __init__(self, conf: Config) -> None:
        self._conf = conf
        self._transports: dict[str, TransportLimits] = {}
        for name in conf.names_set():
            if name.endswith(_FEEDBACKS):
                _check_feedback(conf, name)
        self.retries = RetrySchedule(
            minimal_backoff_time=conf.seconds("minimal_backoff_time"),
            maximal_backoff_time=conf.seconds("maximal_backoff_time"),
            maximal_queue_lifetime=conf.seconds("maximal_queue_lifetime"),
            bounce_queue_lifetime=conf.seconds("bounce_queue_lifetime"),
        )
        self.limits = SchedulerLimits(
            active_limit=conf.integer("qmgr_message_active_limit"),
            recipient_limit=conf.integer("qmgr_message_recipient_limit"),
            recipient_minimum=conf.integer("qmgr_message_recipient_minimum"),
            transport_retry_time=conf.seconds("transport_retry_time"),
            minimal_backoff_time=conf.seconds("minimal_backoff_time"),
        )
        self.feedback_debug = conf.boolean("destination_concurrency_feedback_debug")
        self.queue_run_delay = conf.seconds("queue_run_delay")
        self.router = Router(
            conf.text("recipient_delimiter"), conf.text("double_bounce_sender"), conf.words("defer_transports")
        )

    def transport(self, name: str) -> TransportLimits:
        """What holds for one transport, whether main.cf names it or not."""
        limits = self._transports.get(name)
        if limits is None:
            limits = self._transports[name] = self._read_transport(name)
        return limits

    def _read_transport(self, name: str) -> TransportLimits:
        conf = self._conf
        limit = conf.service_integer("destination_concurrency_limit", name)
        pause = conf.service_seconds("destination_rate_delay", name)
        return TransportLimits(
            Concurrency(
                initial=conf.service_integer("initial_destination_concurrency", name),
                # Deliveries with a pause after each can only be one after the other.
                limit=1 if pause else limit,
                positive=parse_feedback(conf.service_text("destination_concurrency_positive_feedback", name)),
                negative=parse_feedback(conf.service_text("destination_concurrency_negative_feedback", name)),
                failed_cohort_limit=conf.service_integer("destination_concurrency_failed_cohort_limit", name),
            ),
            recipient_limit=conf.service_integer("destination_recipient_limit", name),
            process_limit=conf.integer("default_process_limit"),
            destination_rate_delay=pause,
            rate_delay=conf.service_seconds("transport_rate_delay", name),
            slots=Slots(
                cost=conf.service_integer("delivery_slot_cost", name),
                loan=conf.service_integer("delivery_slot_loan", name),
                discount=conf.service_integer("delivery_slot_discount", name),
                minimum=conf.service_integer("minimum_delivery_slots", name),
            ),
            recipients=Recipients(
                limit=conf.service_integer("recipient_limit", name),
                extra=conf.service_integer("extra_recipient_limit", name),
                refill_limit=conf.service_integer("recipient_refill_limit", name),
                refill_delay=conf.service_seconds("recipient_refill_delay", name),
            ),
        )


def _check_feedback(conf: Config, name: str) -> None:
    try:
        parse_feedback(conf.text(name))
    except ValueError as error:
        raise conf.error(name, str(error), "a number from 0 to 1, or 1/concurrency") from None

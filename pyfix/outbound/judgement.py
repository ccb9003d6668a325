"""Whether a host is to be used, whether a message is for it, and what must not return mail to its sender."""

from collections.abc import Callable, Iterator

from pyfix.net.hostname import equal_names
from pyfix.outbound.destination import SMTP_PORT
from pyfix.outbound.envelope import needs_smtputf8
from pyfix.outbound.session import Session
from pyfix.outbound.settings import Settings
from pyfix.outbound.trouble import Trouble, loops_back, no_smtputf8, refused_to_talk, too_big
from pyfix.service.delivery import Deliver
from pyfix.wire.smtp_client import Stage, State


def judge_greeting(session: Session, settings: Settings, nexthop: str, *, best: bool) -> Trouble | None:
    """Why a host that answered is not to be used. ``best``: it is among the preferred exchangers of the next hop."""
    machine, host = session.machine, session.host
    if session.trouble is not None:
        return session.trouble
    if machine.state is not State.READY:
        stage, response, _ = session.replies[-1]
        soften = stage is Stage.GREETING and response.code // 100 == 5 and settings.skip_5xx_greeting
        return refused_to_talk(response, host.name, host.label, soften=soften)
    if host.port == SMTP_PORT and equal_names(machine.hello_name, settings.myhostname):
        return loops_back(nexthop, soft=not best)
    return None


def judge_message(session: Session, request: Deliver, content: Callable[[], Iterator[bytes]]) -> Trouble | None:
    """Why a message is not for a host."""
    machine, label = session.machine, session.host.label
    if 0 < machine.size_limit < request.size:
        return too_big(request.size, machine.size_limit, label)
    if "SMTPUTF8" not in machine.capabilities and needs_smtputf8(request, content):
        return no_smtputf8(label)
    return None


def suspected_parameter(request: Deliver, settings: Settings, trouble: Trouble | None, *, fallback: bool) -> str:
    """The parameter whose value may be why a message cannot be delivered at all; empty if it is no fault of ours.

    ``fallback``: a host of smtp_fallback_relay was the last that was tried.
    """
    if trouble is None or trouble.soft:
        return ""
    if fallback:
        return "smtp_fallback_relay"
    return "relayhost" if request.nexthop == settings.relayhost else ""


def may_keep(session: Session, settings: Settings, now: float) -> bool:
    """Whether a connection may serve another message."""
    return (
        session.reusable
        and now - session.born < settings.reuse_time_limit
        and not 0 < settings.reuse_count_limit <= session.uses
    )

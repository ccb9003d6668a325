"""smtp: delivers mail to other hosts by SMTP.

Description
    The agent finds the hosts of a next hop, connects to one after the other until the message is delivered or
    refused for good, and answers with an outcome for each recipient. It serves the transports smtp and relay. Many
    deliveries are under way at a time in one process; content streams from the queue file to the connection.

    A connection is kept for a while after a delivery when there is demand for it
    (smtp_connection_cache_on_demand), and then used for the next message to the same destination.

    Content with 8-bit characters is sent as it is also to a host that does not offer 8BITMIME: every host in use
    passes it on, where a bounce would help nobody. Conversion to quoted-printable is not done.

Protocol
    Serves io.pyfix.Delivery. Calls io.pyfix.Resolver, but not for next hops that are addresses, and io.pyfix.Cleanup
    to tell postmaster of hosts that find fault with the protocol (notify_classes), where its unit may do that.

Security
    Talks to hosts chosen by strangers. It sees no file but the message's descriptor, which is read-only, runs as a
    dynamic user, and may connect to any host. Replies are bounded, and cleaned before they go into logs and notices.

Standards
    RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 3461 (DSN), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
    RFC 7505 (null MX).

Diagnostics
    One line for each recipient, with status=sent, deferred or bounced. Hosts that cannot be reached are logged as
    they are passed over.
"""

import asyncio
import errno
import os
import random
from collections.abc import Iterator, Sequence

from pyfix.conf.config import Config
from pyfix.net.hostname import address_family
from pyfix.outbound.connections import ConnectionCache, Demand
from pyfix.outbound.delivery import Delivery, Visits, take_replies
from pyfix.outbound.destination import DestinationError, parse_destination, split_destinations
from pyfix.outbound.envelope import make_envelope
from pyfix.outbound.hosts import Host, ask, find_hosts
from pyfix.outbound.judgement import judge_greeting, judge_message, may_keep, suspected_parameter
from pyfix.outbound.session import Session
from pyfix.outbound.settings import Settings, read_settings
from pyfix.outbound.transcript import report
from pyfix.outbound.trouble import Trouble, no_connection
from pyfix.service import delivery as service
from pyfix.service import resolver
from pyfix.service.calling import Unavailable
from pyfix.service.dispatch import Call
from pyfix.service.outcomes import OutcomeLog
from pyfix.service.postmaster import Postmaster
from pyfix.service.role import Role, run_role
from pyfix.service.unheard import Unheard
from pyfix.spool.content import read_content
from pyfix.system.clock import monotonic, now_usec
from pyfix.system.configuration import own_addresses
from pyfix.wire.smtp_client import SmtpClient, State

_IDLE_LIMIT = 100
_CONFIGURATION = Trouble("4.3.5", "server configuration error")


class Agent:
    """Everything that outlives a delivery."""

    def __init__(self, role: Role) -> None:
        self.journal = role.journal
        self._resolver = role.client(resolver.INTERFACE, "resolver")
        self.cache: ConnectionCache[Session] = ConnectionCache(_IDLE_LIMIT)
        self.outcomes = OutcomeLog(role.journal, role.conf)
        self.postmaster = Postmaster(role)
        self.configure(role.conf)

    def configure(self, conf: Config) -> None:
        """Takes a new configuration; deliveries under way go on with the old one."""
        self.settings = read_settings(conf, own_addresses(conf))
        self.outcomes.configure(conf)
        self.postmaster.configure(conf)
        self.demand = Demand(self.settings.cache_time_limit)

    async def deliver(self, call: Call[service.Deliver], request: service.Deliver) -> service.Delivered:
        """Delivers a message, which comes with the call."""
        descriptor = call.take_fd(request.message)
        try:
            return await Run(self, request, descriptor).deliver()
        finally:
            os.close(descriptor)

    async def look_up(self, question: resolver.Lookup) -> resolver.Answer:
        """Asks the resolver; it may be that there is no answer now."""
        try:
            answer: resolver.Answer = await self._resolver.call("Lookup", question)
        except Unavailable as error:
            self.journal.warning(f"resolver: {error}")
            return resolver.Answer("again")
        return answer

    async def connect(self, host: Host, settings: Settings) -> Session | Trouble:
        """A connection to a host."""
        loop = asyncio.get_running_loop()
        machine = SmtpClient(settings.helo_name, settings.limits, fold=settings.line_length_limit)
        bind = settings.bind_address if address_family(host.address) == 4 else settings.bind_address6
        try:
            async with asyncio.timeout(settings.connect_timeout):
                _, session = await loop.create_connection(
                    lambda: Session(host, machine, settings.timeouts),
                    host.address,
                    host.port,
                    local_addr=(bind, 0) if bind else None,
                )
        except OSError as error:  # our own time-out has no number
            return no_connection(host.label, host.port, os.strerror(error.errno or errno.ETIMEDOUT))
        session.born = monotonic()
        return session

    def keep(self, session: Session, site: str, nexthop: str, settings: Settings) -> None:
        """Keeps a session for the next message to this site, or ends it."""
        now = monotonic()
        wanted = site in settings.cache_destinations or (settings.cache_on_demand and self.demand.felt(nexthop, now))
        if not wanted or not may_keep(session, settings, now):
            session.quit(wait=not settings.skip_quit_response)
            return
        session.idle(settings.cache_time_limit, self.cache.drop, wait=not settings.skip_quit_response)
        displaced = self.cache.put(session, (site, (session.host.address, session.host.port)))
        if displaced is not None:
            displaced.quit(wait=False)

    async def close(self) -> None:
        """Ends what is idle."""
        for session in self.cache.clear():
            session.quit(wait=False)


class Run:
    """One delivery."""

    def __init__(self, agent: Agent, request: service.Deliver, descriptor: int) -> None:
        self.agent = agent
        self.request = request
        self.settings = agent.settings
        self.delivery = Delivery(request, soft_bounce=agent.settings.soft_bounce)
        self.descriptor = descriptor
        self.started = now_usec()
        self.visited: set[tuple[str, int]] = set()
        self.settled: list[service.Outcome] = []

    async def deliver(self) -> service.Delivered:
        """Tries the next hops in turn."""
        nexthop = self.request.nexthop
        demand = self.agent.demand
        demand.begin(nexthop)
        try:
            await self._try_sites(split_destinations(nexthop), self.settings.fallback_relay)
        finally:
            demand.end(nexthop, monotonic())
        return self.delivery.result(self.settled)

    async def _try_sites(self, sites: Sequence[str], fallback: Sequence[str]) -> None:
        delivery, count = self.delivery, len(sites) + len(fallback)
        place = 0
        for place, site in enumerate((*sites, *fallback)):
            go_on = await self._try_site(site, final=place + 1 == count)
            if delivery.done:
                return
            if not go_on:
                break
        trouble = delivery.trouble
        parameter = suspected_parameter(self.request, self.settings, trouble, fallback=place >= len(sites))
        if trouble is not None and parameter:
            self.agent.journal.warning(f"{parameter} configuration problem")
            trouble = trouble.softened("3.5")
        delivery.finish(trouble)
        self._log(now_usec(), 1)

    async def _try_site(self, site: str, *, final: bool) -> bool:
        """Tries the hosts of one next hop. Whether another next hop may be tried."""
        delivery, settings = self.delivery, self.settings
        try:
            destination = parse_destination(site, settings.port)
            destination = destination._replace(mx=destination.mx and settings.look_up_mx)
        except DestinationError as error:
            self.agent.journal.warning(str(error))
            delivery.note(_CONFIGURATION)
            return True
        visits = 0
        while (session := self.agent.cache.take(site)) is not None:
            if await self._converse(session, site):
                visits = 1
                delivery.next_host()
                if delivery.done:
                    return False
                break
        found = await ask(find_hosts(destination, settings.policy, random.shuffle), self.agent.look_up)
        if found.trouble is not None:
            delivery.note(found.trouble)
            return not (found.own or found.trouble.loops)
        hosts = [host for host in found.hosts if (host.address, host.port) not in self.visited]
        count = Visits(len(hosts), settings.mx_address_limit, settings.mx_session_limit, visits)
        for host in hosts:
            if not count.begin():
                break
            await self._try_host(host, site, count, final=final or found.own, best=host.preference == found.best)
            delivery.next_host()
            if delivery.done:
                return False
        return not found.own

    async def _try_host(self, host: Host, site: str, count: Visits, *, final: bool, best: bool) -> None:
        delivery, agent = self.delivery, self.agent
        delivery.final = final and count.last
        session = agent.cache.take((host.address, host.port))
        if session is not None and await self._converse(session, site):
            count.count_session()
            return
        made = await agent.connect(host, self.settings)
        if isinstance(made, Trouble):
            agent.journal.info(made.reason)
            delivery.note(made)
            return
        await made.greet()
        if made.garbage:
            agent.journal.warning(f"non-ESMTP response from {made.relay}: {made.garbage}")
        trouble = judge_greeting(made, self.settings, self.request.nexthop, best=best)
        if trouble is not None:
            if trouble.loops:
                agent.journal.warning(f"host {made.relay} replied to HELO/EHLO with my own hostname")
            made.quit(wait=False)
            self._fail(trouble, made.relay, host_is_down=True)
            self._log(now_usec(), 1)
            return
        count.count_session()
        delivery.final = final and count.last
        await self._converse(made, site)

    async def _converse(self, session: Session, site: str) -> bool:
        """Sends the message to a host. False: the kept session had ended before it took anything."""
        delivery, request, host = self.delivery, self.request, session.host
        begun = now_usec()
        trouble = judge_message(session, request, self._content)
        if trouble is not None:
            self._fail(trouble, session.relay, host_is_down=False)
        else:
            recipients = list(delivery.pending.values())
            envelope = make_envelope(request, recipients, session.machine)
            await session.transact(envelope, self._content)
            if session.uses > 1 and session.ended_before_mail:
                session.close()
                return False
            take_replies(delivery, recipients, session.replies, host, dsn="DSN" in session.machine.capabilities)
            if session.trouble is not None:
                if session.local_error is not None:
                    self.agent.journal.warning(str(session.local_error), request.queue_id)
                if delivery.pending:
                    self._fail(session.trouble, session.relay, host_is_down=True)
        self.visited.add((host.address, host.port))
        self._log(begun, session.uses)
        report(self.agent.postmaster, session)
        if session.trouble is None and session.machine.state is State.STALE:
            await session.reset()
        self.agent.keep(session, site, request.nexthop, self.settings)
        return True

    def _content(self) -> Iterator[bytes]:
        return read_content(self.descriptor, self.request.content_offset)

    def _fail(self, trouble: Trouble, relay: str, *, host_is_down: bool) -> None:
        if self.delivery.failed(trouble, relay, host_is_down=host_is_down):
            self.agent.journal.info(trouble.reason, self.request.queue_id)

    def _log(self, begun: int, uses: int) -> None:
        """Logs the outcomes that are new. ``begun``: when the message's turn came on the connection, microseconds."""
        settle, times = self.agent.outcomes.settle, (self.started, begun, now_usec())
        for recipient, outcome in self.delivery.new_outcomes():
            self.settled.append(settle(self.request, recipient, outcome, times, connection_use=uses))


async def start(role: Role) -> None:
    """Serves until the end."""
    agent = Agent(role)
    role.on_reload.append(agent.configure)
    role.on_stop.append(agent.close)
    role.implement(service.INTERFACE, {"Deliver": Unheard(agent.deliver).deliver})


def main() -> None:
    """The executable."""
    run_role("smtp", start, description=__doc__ or "")


if __name__ == "__main__":
    main()

"""A conversation with a host: the protocol machine joined to a transport that it is given, with deadlines.

A session is made by the event loop when a connection stands. Its owner calls greet(), then transact() for each message,
and quit() or close(). What goes wrong is in ``trouble``, never an exception: an outcome is a value. Between messages an
idle session watches its connection; ``on_end`` tells when it became useless.

Memory is bounded: content is taken from an iterator as fast as the transport takes it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

from pyfix.outbound.hosts import Host
from pyfix.outbound.trouble import Trouble, While, broken_protocol, local_data_error, lost_connection, timed_out
from pyfix.spool.record import CorruptFile
from pyfix.wire.smtp_client import RESTING, Envelope, Garbage, ProtocolError, Replied, SmtpClient, Stage, State

_WRITE_HIGH: Final = 65536


class Session(asyncio.Protocol):
    """A connection to a host. ``timeouts`` are seconds for each stage that is waited for."""

    def __init__(self, host: Host, machine: SmtpClient, timeouts: Mapping[Stage | While, int]) -> None:
        self.host = host
        self.machine = machine
        # the first thing that went wrong with the connection
        self.trouble: Trouble | None = None
        # what was wrong with the message, when trouble is a local data error
        self.local_error: Exception | None = None
        # replies to the transaction at hand
        self.replies: list[Replied] = []
        # the first line of nonsense that the host sent, for a warning; empty for none
        self.garbage = ""
        # messages that were sent or tried, this one included
        self.uses = 0
        self.born = 0.0
        # called once when an idle session ends
        self.on_end: Callable[[Session], None] | None = None
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._busy = True
        self._wait_at_quit = True
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def relay(self) -> str:
        """``NAME[ADDRESS]:PORT``, as in logs."""
        return f"{self.host.label}:{self.host.port}"

    @property
    def reusable(self) -> bool:
        """Whether another message may be sent."""
        return self.trouble is None and self.machine.reusable

    @property
    def ended_before_mail(self) -> bool:
        """Whether the host closed the connection before it took the sender: it has seen nothing of the message."""
        replies = self.replies
        if replies and replies[0].response.code == 421:
            return True
        return self.trouble is not None and not replies

    # what the owner does

    async def greet(self) -> None:
        """Waits until the host is ready or has refused; see ``trouble`` and the machine's state."""
        self._watch(Stage.GREETING)
        await self._rest()

    async def transact(self, envelope: Envelope, content: Callable[[], Iterator[bytes]]) -> None:
        """Sends a message. ``replies`` has what the host said, ``trouble`` what broke off the connection, if it did.

        ``content`` is called only if the host wants it, and gives chunks of lines ended by LF.
        """
        self._busy = True
        self.uses += 1
        self.replies = []
        machine = self.machine
        machine.begin(envelope)
        self._write(machine.data_to_send())
        self._watch(Stage.MAIL)
        await self._rest()
        if self.trouble is None and machine.state is State.CONTENT:
            await self._send_content(content)
            await self._rest()

    async def reset(self) -> None:
        """Ends the transaction that a refusal left open."""
        self._busy = True
        self.machine.reset()
        self._write(self.machine.data_to_send())
        self._watch(Stage.RSET)
        await self._rest()

    def quit(self, *, wait: bool) -> None:
        """Says good-bye, where that is still possible, and ends the connection; ``wait``: after the host's answer."""
        self.on_end = None
        if self._transport is None or self.trouble is not None or self.machine.state not in _POLITE:
            self.close()
            return
        self.machine.quit()
        self._write(self.machine.data_to_send())
        if wait:
            self._busy = True
            self._watch(Stage.QUIT)
        else:
            self.close()

    def close(self) -> None:
        """Ends the connection once what was written is out."""
        self.on_end = None
        self._stop_timer()
        if self._transport is not None:
            self._transport.close()

    def idle(self, seconds: float, on_end: Callable[["Session"], None], *, wait: bool) -> None:
        """No message for now: after so long, or at any word of the host, the session ends, and ``on_end`` is told.

        ``wait``: see quit().
        """
        self._busy = False
        self.on_end = on_end
        self._wait_at_quit = wait
        self._ring_in(seconds)

    # what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop's word that the connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Bytes from the host."""
        if not self._busy:
            self._ended()
            self.close()
            return
        try:
            self.machine.receive(data)
        except ProtocolError as error:
            self._fail(broken_protocol(self.host.label, str(error)))
            return
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- whatever it was, the host is gone
        """The connection is no more."""
        self._transport = None
        if self.trouble is None and self.machine.state is not State.CLOSED:
            self._fail(lost_connection(self._stage(), self.host.label))
        self._stop_timer()
        self._wake()
        if not self._busy:
            self._ended()

    def pause_writing(self) -> None:
        """The host reads more slowly than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """It caught up."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # inside

    def _pump(self) -> None:
        machine = self.machine
        replied = False
        try:
            while (event := machine.next_event()) is not None:
                if isinstance(event, Garbage):
                    self.garbage = self.garbage or event.text or "(empty line)"
                else:
                    replied = True
                    self.replies.append(event)
        except ProtocolError as error:
            self._fail(broken_protocol(self.host.label, str(error)))
            return
        if not replied:
            return
        self._write(machine.data_to_send())
        if machine.awaited is not None:
            self._watch(machine.awaited)
        elif machine.state in RESTING:
            self._wake()
            if self.on_end is None and machine.state is State.CLOSED:
                self.close()

    async def _rest(self) -> None:
        """Waits until it is our turn or the connection is lost."""
        self._pump()
        if self.trouble is None and self.machine.state not in RESTING:
            self._waiter = self._loop.create_future()
            await self._waiter

    async def _send_content(self, content: Callable[[], Iterator[bytes]]) -> None:
        held = b""
        try:
            for chunk in content():
                if held:
                    self._write(held)
                    await self._drain()
                    if self.trouble is not None:
                        return
                held = self.machine.content(chunk)
        except (OSError, CorruptFile) as error:
            # The end mark would make half a message look like a whole one.
            self.local_error = error
            self._fail(local_data_error(self.host.label))
            return
        self._write(held + self.machine.end())
        self._watch(Stage.END_OF_DATA)

    async def _drain(self) -> None:
        """Lets others run, and waits while the transport has enough."""
        self._watch(While.MESSAGE_BODY)
        await asyncio.sleep(0)
        if self._paused and self.trouble is None:
            self._drained = self._loop.create_future()
            await self._drained

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _stage(self) -> Stage | While:
        return self.machine.awaited or While.MESSAGE_BODY

    def _fail(self, trouble: Trouble) -> None:
        self.trouble = self.trouble or trouble
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        for future in (self._waiter, self._drained):
            if future is not None and not future.done():
                future.set_result(None)

    def _ended(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self)

    # The deadline moves with every reply; the timer is set anew only when it rings too early or would ring too late.

    def _watch(self, stage: Stage | While) -> None:
        self._ring_in(self._timeouts[stage])

    def _ring_in(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif self._busy:
            self._fail(timed_out(self._stage(), self.host.label))
        else:
            self._ended()
            self.quit(wait=self._wait_at_quit)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_POLITE = frozenset({State.REFUSED, State.READY, State.STALE})

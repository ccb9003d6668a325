"""Mail by the thousand: a fast SMTP client and a fast sink.

The client tells a ledger whether each message was acknowledged; the sink tells what arrived. Both are deliberately
simple and share no code with pyfix.
"""

import asyncio
import random


def message(key, size, seed=0):
    """A message whose body can be recognised: CRLF lines, about ``size`` bytes, its key in a header."""
    rng = random.Random(f"{key}/{seed}")
    line = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz .") for _ in range(66)).encode()
    body = b"".join(b"%06d %s\r\n" % (i, line) for i in range(max(1, size // 75)))
    headers = f"From: <load@example.com>\r\nTo: <sink@example.net>\r\nSubject: {key}\r\nX-Ledger: {key}\r\n".encode()
    return headers + b"\r\n" + body


class Lost(Exception):
    """The connection ended."""


class TurnedAway(Lost):
    """There was no connection."""


class Session(asyncio.Protocol):
    """A client connection; replies are waited for one by one."""

    def __init__(self):
        self._buffer = b""
        self._waiter = None
        self.transport = None
        self._lost = False

    def connection_made(self, transport):
        transport.max_size = 65536
        self.transport = transport

    def data_received(self, data):
        self._buffer += data
        self._wake()

    def connection_lost(self, _error):
        self._lost = True
        self._wake()

    def _wake(self):
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def reply(self):
        """The next reply: code and whole text. Raises Lost."""
        while True:
            end = 0
            while (newline := self._buffer.find(b"\n", end)) >= 0:
                line = self._buffer[end : newline + 1]
                end = newline + 1
                if line[3:4] != b"-":
                    text, self._buffer = self._buffer[:end], self._buffer[end:]
                    return int(line[:3]), text
            if self._lost:
                raise Lost
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def expect(self, code):
        got, text = await self.reply()
        if got != code:
            raise Lost(text)

    def write(self, data):
        self.transport.write(data)

    async def hello(self):
        await self.expect(220)
        self.write(b"EHLO load.example.com\r\n")
        await self.expect(250)

    async def send(self, sender, recipient, content):
        """Sends one message; True if it was acknowledged, False if refused. Raises Lost."""
        self.write(b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender.encode(), recipient.encode()))
        codes = [(await self.reply())[0] for _ in range(3)]
        if codes[2] != 354:
            if codes[0] == 250:
                self.write(b"RSET\r\n")
                await self.expect(250)
            return False
        self.write(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return (await self.reply())[0] == 250

    def close(self):
        if self.transport:
            self.transport.abort()


async def connect(host, port):
    """A session that has said EHLO. Raises Lost, TurnedAway."""
    try:
        _, session = await asyncio.get_running_loop().create_connection(Session, host, port)
    except OSError as error:
        raise TurnedAway(str(error)) from None
    try:
        await asyncio.wait_for(session.hello(), 60)
    except (Lost, TimeoutError):
        session.close()
        raise Lost from None
    return session


async def load(
    port,
    ledger,
    *,
    sessions,
    messages,
    size,
    recipient,
    persistent=True,
    prefix="m",
    patience=0,
    host="127.0.0.1",
):
    """Sends messages over ``sessions`` connections; ``messages`` is how many, or an iterator that ends in time.

    ``patience``: how often a message is tried anew, under a new key, when its connection is lost or it is refused.
    """
    keys = iter(range(messages)) if isinstance(messages, int) else messages

    async def one_session(number):
        session = None
        for index in keys:
            for attempt in range(patience + 1):
                key = f"{prefix}-{number}-{index}-{attempt}"
                content = message(key, size)
                try:
                    session = session or await connect(host, port)
                    ledger.send(key, content, [recipient])
                    if await asyncio.wait_for(session.send(f"s{number}@example.com", recipient, content), 120):
                        ledger.acknowledge(key)
                        break
                    ledger.refuse(key)
                except (Lost, TimeoutError) as error:
                    ledger.turned_away += isinstance(error, TurnedAway)
                    if session:
                        session.close()
                    session = None
                await asyncio.sleep(0.05 if patience else 0)
            if session and not persistent:
                session.write(b"QUIT\r\n")
                session.close()
                session = None
        if session:
            session.close()

    await asyncio.gather(*(one_session(n) for n in range(sessions)))


class SinkProtocol(asyncio.Protocol):
    """Accepts everything but what ``replies`` refuses, a reply by verb.

    ``on_message(content, recipients)`` gets whole messages, un-dot-stuffed.
    """

    def __init__(self, on_message, replies=None):
        self._on_message = on_message
        self._replies = replies or {}
        self._buffer = bytearray()
        self._sender_accepted = False
        self._recipients = []
        self._in_data = False

    def connection_made(self, transport):
        transport.max_size = 65536
        self._transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data):
        self._buffer += data
        out = []
        while (reply := self._content_end() if self._in_data else self._next_line()) is not None:
            out.append(reply)
        self._transport.write(b"".join(out))
        if out and out[-1].startswith(b"221"):
            self._transport.close()

    def close(self):
        self._transport.abort()

    def _content_end(self):
        """The reply to a whole content; None if its end has not come."""
        end = self._buffer.find(b"\r\n.\r\n") + 2
        if end < 2:
            return None
        content = bytes(self._buffer[:end]).replace(b"\r\n.", b"\r\n")
        del self._buffer[: end + 3]
        self._in_data = False
        self._on_message(content, self._recipients)
        return b"250 2.0.0 Ok\r\n"

    def recipient_reply(self, recipient):
        self._recipients.append(recipient)
        return b"250 2.1.5 Ok\r\n"

    def _next_line(self):
        """The reply to the next line; None if there is none."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end]).strip()
        del self._buffer[: end + 1]
        verb = line[:4].upper()
        if verb in self._replies:
            return self._replies[verb]
        if verb == b"EHLO":
            return b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 100000000\r\n250 SMTPUTF8\r\n"
        if verb == b"MAIL":
            self._sender_accepted, self._recipients = True, []
        elif verb == b"RCPT":
            if not self._sender_accepted:
                return b"503 5.5.1 need MAIL\r\n"
            return self.recipient_reply(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb == b"DATA":
            if not self._recipients:
                return b"554 5.5.1 no recipients\r\n"
            self._in_data = True
            return b"354 Go\r\n"
        elif verb == b"QUIT":
            return b"221 Bye\r\n"
        return b"250 2.1.0 Ok\r\n"


async def sink(on_message, host="127.0.0.1", port=0):
    """A sink; its port is ``server.sockets[0].getsockname()[1]``."""
    return await asyncio.get_running_loop().create_server(lambda: SinkProtocol(on_message), host, port, backlog=1000)

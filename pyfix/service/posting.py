"""Mail of this system's own on its way to cleanup: notices, and reports to postmaster."""

import os
from collections.abc import Callable, Iterable

from pyfix.conf.config import Config
from pyfix.mail.date import format_date
from pyfix.service import cleanup
from pyfix.service.client import Client
from pyfix.service.interface import Nothing
from pyfix.system.clock import utc_offset, zone_name
from pyfix.system.pipe import open_pipe, write_pipe

Date = tuple[int, int, str]
"""Seconds since the epoch, the local zone's offset from UTC in seconds, and its name."""


def date_of(usec: int) -> Date:
    """The date of a moment in microseconds since the epoch."""
    seconds = usec // 1_000_000
    return seconds, utc_offset(seconds), zone_name(seconds)


class Poster:
    """Hands messages to cleanup. ``client`` calls it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._by = ""

    def configure(self, conf: Config) -> None:
        """Takes a configuration, before the first message."""
        self._by = f"{conf.text('myhostname')} ({conf.text('mail_name')})"

    async def post(
        self,
        queue_id: str,
        sender: str,
        recipient: cleanup.Recipient,
        content: Iterable[bytes],
        arrival_usec: int,
        *,
        encoding: str = "",
        smtputf8: bool = False,
        on_whole: Callable[[], None] | None = None,
    ) -> None:
        """Puts a message into the queue. ``on_whole`` is called when its content is written, before it is kept.

        Raises cleanup.Refused, Unavailable, OSError, and what the content's iterator raises; then nothing is kept.
        """
        opening = cleanup.Open(
            queue_id=queue_id,
            content=0,
            sender=sender,
            recipients=(recipient,),
            arrival_usec=arrival_usec,
            trace=f"Received: by {self._by}\n\tid {queue_id}; {format_date(*date_of(arrival_usec))}",
            encoding=encoding,
            smtputf8=smtputf8,
            attributes={"rewrite_context": "local"},
        )
        session = await self._client.session()
        reading, writing = open_pipe()
        try:
            opened = session.send("Open", opening, (reading,))
            os.close(reading)
            reading = -1
            await opened
            # Nobody reads to the end of what is refused; Commit tells why.
            await write_pipe(writing, content)
            os.close(writing)
            writing = -1
            if on_whole is not None:
                on_whole()
            await session.call("Commit", Nothing())
        except BaseException:
            session.close()
            raise
        finally:
            for fd in (reading, writing):
                if fd >= 0:
                    os.close(fd)
        session.release()

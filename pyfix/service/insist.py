"""Calls that may be made twice: a service that was lost is called again before its caller gives up."""

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.interface import ServiceError

_TRIES = 3
_PAUSE = 1.0


async def insist(client: Client, method: str, parameters: Struct, fds: Sequence[int] = ()) -> Any:
    """Calls, again if need be. Raises Unavailable, also for an error that the service answers with."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return await client.call(method, parameters, fds)
        except ServiceError as error:
            raise Unavailable(str(error)) from None
        except Unavailable:
            if not tries_left:
                raise
        await asyncio.sleep(_PAUSE)
    raise AssertionError("unreachable")

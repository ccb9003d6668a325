"""Calls as a client makes them: where the socket is, how a call is encoded, what a reply means.

A call that finds nobody, loses its connection or takes too long raises Unavailable.
"""

import os
from typing import Any

import msgspec

from pyfix.service.interface import Interface, Method
from pyfix.service.varlink import SERVICE, Reply

CALL_TIMEOUT = 100.0
"""Seconds; a service that takes longer is in trouble. Postfix: ipc_timeout is 3600s, a tenth of an hour is too long."""

CONNECT_PATIENCE = 5.0
CONNECT_PAUSE = 0.02


class Unavailable(Exception):
    """The service could not be reached, or was lost before it answered. ``args[0]`` says so, for the log."""


_decode_reply = msgspec.json.Decoder(Reply).decode
_encode = msgspec.json.Encoder().encode


def socket_path(role: str, interface: str) -> str:
    """Where a role offers an interface: ``/run/pyfix/ROLE/INTERFACE``, below $PYFIX_RUNTIME where that is set."""
    return f"{os.environ.get('PYFIX_RUNTIME') or '/run/pyfix'}/{role}/{interface}"


class Codec:
    """Encodes the calls of an interface and decodes its replies."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._methods = {m.name: (f"{interface.name}.{m.name}", self._decoder(m)) for m in interface.methods}
        self._errors = {e.name: e for e in (*interface.errors, *SERVICE.errors)}

    @staticmethod
    def _decoder(method: Method) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(method.reply)

    def encode(self, method: str, parameters: msgspec.Struct, flag: bytes = b"") -> bytes:
        """A call; ``flag`` is `"more":true,` or `"oneway":true,`."""
        return b'{"method":"%s",%s"parameters":%s}\0' % (self._methods[method][0].encode(), flag, _encode(parameters))

    def decode(self, method: str, data: bytes) -> tuple[Any, bool]:
        """The reply and whether more follow. Raises the ServiceError that it is, Unavailable if it is neither."""
        try:
            reply = _decode_reply(data)
            if not reply.error:
                return self._methods[method][1].decode(reply.parameters), reply.continues
            known = self._errors.get(reply.error)
            if known is not None:
                raise known(msgspec.json.decode(reply.parameters, type=known.Parameters))
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.interface.name}: bad reply: {error}") from None
        raise Unavailable(f"{self.interface.name}: unknown error {reply.error}")

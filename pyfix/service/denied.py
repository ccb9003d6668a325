"""What a public service answers to a user who may not use it."""

import msgspec

from pyfix.service.interface import ServiceError


class Stranger(msgspec.Struct, frozen=True):
    """A user who may not do what was asked for; ``unknown`` for a number without an account."""

    user: str
    uid: int


class Denied(ServiceError):
    """The caller may not do this; each interface has an error of its own of this kind."""

    Parameters = Stranger

    @property
    def who(self) -> str:
        """The user as in messages: ``nobody(65534)``."""
        stranger = msgspec.convert(self.parameters, Stranger, from_attributes=True)
        return f"{stranger.user}({stranger.uid})"

"""Keys of tables and patterns, in one case."""


def fold(text: str) -> str:
    """The text in lower case, so that what differs only in case compares equal.

    A character outside ASCII never becomes one inside it, as KELVIN SIGN would become ``k``: two domains that DNS
    keeps apart stay apart.
    """
    if text.isascii():
        return text.lower()
    return "".join(c.lower() if c.isascii() or not c.lower().isascii() else c for c in text)

"""Variable envelope return paths: a sender address that tells which recipient it was used for.

Mail from ``list@example.com`` to ``ada@example.org`` goes out as from ``list+ada=example.org@example.com``, so that
whatever comes back needs no reading to know whom it is about.

Source: Postfix's VERP_README.
"""

from pyfix.mail.address import split_address


def verp_sender(delimiters: str, sender: str, recipient: str) -> str:
    """The sender for one recipient; all in internal form. ``delimiters`` are two characters, ``+=`` for example."""
    local, domain = split_address(sender)
    to_local, to_domain = split_address(recipient)
    path = f"{local}{delimiters[:1]}{to_local}" + (f"{delimiters[1:2]}{to_domain}" if to_domain else "")
    return f"{path}@{domain}" if domain else path


def check_delimiters(delimiters: str, allowed: str) -> bool:
    """Whether a text is two characters of those that verp_delimiter_filter allows."""
    return len(delimiters) == 2 and set(delimiters) <= set(allowed)

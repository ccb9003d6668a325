"""The lines that delivery puts on top of a message, and the forwarding loops that they show.

Source: RFC 5321 section 4.4 (Return-Path); Postfix's local(8), DELIVERY RIGHTS and MAILBOX DELIVERY.
"""

from collections.abc import Iterable

from pyfix.deliver.recipient import fold
from pyfix.mail.address import quote_address

HEADER_LIMIT = 1024 * 1024
"""Bytes of header that are searched for Delivered-To. A loop behind more header than that ends by its hop count."""

_NAME = b"delivered-to:"


def trace_lines(sender: str, original: str, delivered: str) -> bytes:
    """Return-Path, X-Original-To and Delivered-To; the last two only with an address. Addresses in internal form."""
    lines = [f"Return-Path: <{quote_address(sender)}>"]
    quoted = quote_address(original)
    if original:
        lines.append(f"X-Original-To: {quoted}")
    if delivered:
        lines.append(f"Delivered-To: {quoted if delivered == original else quote_address(delivered)}")
    return "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")


def delivered_addresses(header: bytes) -> set[bytes]:
    """The addresses, in quoted form and lower case, in the Delivered-To lines of a message's header.

    Continuation lines are not looked at: no agent writes such.
    """
    header = header.lower()
    if _NAME not in header:
        return set()
    return {line[len(_NAME) :].strip(b" \t") for line in header.split(b"\n") if line.startswith(_NAME)}


def is_loop(addresses: set[bytes], recipient: str) -> bool:
    """Whether a message was delivered to the recipient (internal form) before."""
    return bool(addresses) and fold(quote_address(recipient)).encode("utf-8", "surrogateescape") in addresses


def read_header(content: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Reads chunks of a message until its header is there, or HEADER_LIMIT bytes: the header, and all that was read."""
    read = b"\n"
    for chunk in content:
        read += chunk
        end = read.find(b"\n\n", max(len(read) - len(chunk) - 1, 0))
        if end >= 0:
            return read[1:end], read[1:]
        if len(read) > HEADER_LIMIT:
            break
    return read[1 : HEADER_LIMIT + 1], read[1:]

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
    if original:
        lines.append(f"X-Original-To: {quote_address(original)}")
    if delivered:
        lines.append(f"Delivered-To: {quote_address(delivered)}")
    return "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")


def delivered_addresses(content: Iterable[bytes]) -> set[bytes]:
    """The addresses, in quoted form and lower case, in the Delivered-To lines of a message's header.

    Continuation lines are not looked at: no agent writes such.
    """
    header = _header(content).lower()
    if _NAME not in header:
        return set()
    return {line[len(_NAME) :].strip(b" \t") for line in header.split(b"\n") if line.startswith(_NAME)}


def is_loop(addresses: set[bytes], recipient: str) -> bool:
    """Whether a message was delivered to the recipient (internal form) before."""
    return bool(addresses) and fold(quote_address(recipient)).encode("utf-8", "surrogateescape") in addresses


def _header(content: Iterable[bytes]) -> bytes:
    """A message's header, up to HEADER_LIMIT bytes."""
    chunks: list[bytes] = []
    size, tail = 0, b"\n"
    for chunk in content:
        end = (tail + chunk).find(b"\n\n")
        chunks.append(chunk)
        size += len(chunk)
        if end >= 0 or size >= HEADER_LIMIT:
            break
        tail = (tail + chunk)[-1:]
    text = b"".join(chunks)[:HEADER_LIMIT]
    end = (b"\n" + text).find(b"\n\n")
    return text if end < 0 else text[:end]

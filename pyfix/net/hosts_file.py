"""/etc/hosts: names and addresses that DNS is not asked for.

Source: hosts(5).
"""

import re

from pyfix.net.hostname import address_family, canonical_address, is_hostname


class Hosts:
    """The file's content, for look-ups both ways. Names are found in any case of letters."""

    def __init__(self, text: str = "") -> None:
        self._names: dict[str, str] = {}
        self._addresses: dict[str, list[str]] = {}
        for line in text.split("\n"):
            words = re.findall(r"[^ \t\r]+", line.partition("#")[0])
            if len(words) > 1 and address_family(words[0]):
                self._add(canonical_address(words[0]), [name for name in words[1:] if is_hostname(name)])

    def _add(self, address: str, names: list[str]) -> None:
        if names:
            self._names.setdefault(address, names[0])
        for name in names:
            found = self._addresses.setdefault(_key(name), [])
            if address not in found:
                found.append(address)

    def name(self, address: str) -> str:
        """The name of an address, its first; empty if there is none."""
        return self._names.get(canonical_address(address), "")

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, of both families."""
        return tuple(self._addresses.get(_key(name), ()))


def _key(name: str) -> str:
    return name.lower() if name.isascii() else name

"""Compares what was seen of Postfix and of pyfix: every difference is in the list of those that have a reason, or told.

usage: compare.py DIRECTORY      compares records that hosts.py kept
"""

import difflib
import json
import sys
from pathlib import Path

from beside import mix
from beside.differences import DIFFERENCES
from beside.hosts import Seen
from beside.normal import Normal


def compare(postfix, pyfix, differences):
    """The differences that are in no list, as texts, and the listed ones that do not occur."""
    unlisted, occurred = [], set()
    changes = [change for listed in differences.values() for change in listed]
    for key in sorted(postfix.keys() | pyfix.keys()):
        expected, ours = "\n".join(postfix.get(key, ())), "\n".join(pyfix.get(key, ()))
        used = set()
        for change in changes:
            if expected == ours:
                break
            changed = change.apply(f"{key[0]}: {key[1]}", expected, ours)
            if changed != expected:
                expected = changed
                used.add(change)
        if expected == ours:
            occurred |= used
        else:
            unlisted.append(_told(key, expected, ours))
    gone = [f"{what}: {change}" for what, listed in differences.items() for change in listed if change not in occurred]
    return unlisted, gone


def _told(key, expected, ours):
    lines = difflib.unified_diff(expected.split("\n"), ours.split("\n"), "Postfix", "pyfix", n=1, lineterm="")
    return "\n".join([f"== {key[0]}: {key[1]}", *(f"   {line}" for line in list(lines)[2:])])


def main(directory):
    messages = mix.messages()
    both = []
    for name in ("postfix", "pyfix"):
        seen = Seen(**json.loads(Path(directory, f"{name}.json").read_text()))
        both.append(Normal(seen, messages).observations())
    unlisted, gone = compare(*both, DIFFERENCES)
    print(*unlisted, sep="\n")
    print(
        f"{len(both[0])} observations, {len(unlisted)} differ without being listed; listed, but gone:", *gone, sep="\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

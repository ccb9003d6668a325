"""Values of parameters: what a text means as a number, a time, a truth value, a list.

Source: postconf(5); the split at commas and white space that keeps ``{ }`` groups whole is Postfix's mystrtokq().
"""

from pyfix.conf.error import ValueTrouble

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
"""Seconds of the time units."""

MAX_NUMBER = 2**63 - 1
_MAX_DIGITS = 19
_SEPARATORS = frozenset(", \t\r\n")
_TO_BLANKS = {ord(separator): " " for separator in _SEPARATORS}


def parse_integer(text: str) -> int:
    """A decimal number, with a minus sign or without; ValueTrouble for anything else."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueTrouble(f'bad number "{text[:40]}"', "write decimal digits only")
    if len(digits.lstrip("0")) > _MAX_DIGITS or int(digits) > MAX_NUMBER:
        raise ValueTrouble(f'the number "{text[:40]}" is too large', f"the largest is {MAX_NUMBER}")
    return -int(digits) if text.startswith("-") else int(digits)


def parse_seconds(text: str, default_unit: str) -> int:
    """A time such as ``300``, ``5m`` or ``1d`` in seconds; without a letter it counts in ``default_unit``."""
    unit = text[-1:] if text[-1:] in UNITS else ""
    number = text.removesuffix(unit)
    digits = number.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueTrouble(f'bad time "{text[:40]}"', "write a number and one of the letters s, m, h, d, w")
    seconds = parse_integer(number) * UNITS[unit or default_unit]
    if abs(seconds) > MAX_NUMBER:
        raise ValueTrouble(f'the time "{text[:40]}" is too long', f"the longest is {MAX_NUMBER} seconds")
    return seconds


def parse_boolean(text: str) -> bool:
    """``yes`` or ``no`` in any case; ValueTrouble for anything else."""
    lower = text.lower() if text.isascii() else text
    if lower not in ("yes", "no"):
        raise ValueTrouble(f'bad truth value "{text[:40]}"', "write yes or no")
    return lower == "yes"


def check_bounds(number: int, low: int, high: int, shown: str) -> None:
    """ValueTrouble when a number is out of bounds; ``high`` 0 is no upper bound."""
    if number < low:
        raise ValueTrouble(f'"{shown[:40]}" is too small', f"the least is {low}")
    if high and number > high:
        raise ValueTrouble(f'"{shown[:40]}" is too large', f"the most is {high}")


def check_choice(word: str, choices: tuple[str, ...]) -> None:
    """ValueTrouble when a word is none of those allowed."""
    if word not in choices:
        known = ", ".join(choice or "an empty value" for choice in choices)
        raise ValueTrouble(f'unknown value "{word[:40]}"', f"known are {known}")


def split_words(text: str) -> tuple[str, ...]:
    """The words of a list, split at commas and white space; what stands in braces stays whole, braces included."""
    if "{" not in text:
        return tuple(word for word in text.translate(_TO_BLANKS).split(" ") if word)
    words, start, level = list[str](), 0, 0
    for index, character in enumerate(text):
        if character == "{":
            level += 1
        elif character == "}":
            level = max(level - 1, 0)
        elif level == 0 and character in _SEPARATORS:
            if index > start:
                words.append(text[start:index])
            start = index + 1
    if level:
        raise ValueTrouble(f'"{text[start:][:40]}" lacks its closing "}}"', "close every brace")
    if start < len(text):
        words.append(text[start:])
    return tuple(words)

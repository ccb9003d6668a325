"""static: one value for every key. ``static:value`` or ``static:{value with spaces}``."""


class StaticTable:
    """A table that gives the same value for every key."""

    partial = True

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def look_up(self, key: str) -> str | None:
        """The table's value."""
        del key
        return self._value


def open_table(name: str, argument: str) -> StaticTable:
    """The table of that value."""
    if argument.startswith("{") and argument.endswith("}"):
        argument = argument[1:-1].strip(" \t\r\n")
    return StaticTable(name, argument)

"""environ: the process's environment variables by name."""

import os


class EnvironTable:
    """The environment as a table."""

    partial = True

    def __init__(self, name: str) -> None:
        self.name = name

    def look_up(self, key: str) -> str | None:
        """The variable's value."""
        return os.environ.get(key)


def open_table(name: str, argument: str) -> EnvironTable:
    """The table; the argument means nothing."""
    del argument
    return EnvironTable(name)

"""What is wrong with the configuration, and where."""


class ConfigError(Exception):
    """A mistake in the configuration.

    ``file`` and ``line`` say where the value was set: empty and 0 for a built-in default, and ``command line`` and 0
    for ``-o name=value``. ``hint`` says what to write instead.
    """

    def __init__(self, message: str, *, file: str = "", line: int = 0, parameter: str = "", hint: str = "") -> None:
        self.file = file
        self.line = line
        self.parameter = parameter
        self.message = message
        self.hint = hint
        where = f"{file}, line {line}" if file and line else file
        parts = [where, f"parameter {parameter}" if parameter else "", message]
        super().__init__(": ".join(part for part in parts if part) + (f"; {hint}" if hint else ""))


class ValueTrouble(Exception):
    """A text that is not the value it should be; whoever knows the place turns it into a ConfigError."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

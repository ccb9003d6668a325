"""mailq(1): shows the queue; ``postqueue -p`` under its old name.

Description
    Takes no options of its own. Others, which sendmail's mailq has, are ignored.

Diagnostics
    As postqueue's.
"""

from pyfix.commands import postqueue
from pyfix.conf.config import ConfigError
from pyfix.system.configuration import load_config


def main() -> None:
    """The command."""
    try:
        postqueue.show(load_config())
    except ConfigError as error:
        postqueue.fatal(str(error))


if __name__ == "__main__":
    main()

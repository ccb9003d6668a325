"""mailq(1): shows the queue; sendmail's ``-bp`` under its old name.

Description
    Takes sendmail's options, of which few mean anything here. The table is that of ``postqueue -p``.

Diagnostics
    As sendmail's and postqueue's.
"""

import sys

from pyfix.commands import sendmail


def main() -> None:
    """The command."""
    sys.argv[0] = "mailq"
    sendmail.main()


if __name__ == "__main__":
    main()

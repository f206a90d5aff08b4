"""``pillion-sidecar``: how it starts. The commands are in ``cli_commands``.

Probes run ``check`` every few seconds in every container: it does without click and the rest.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command and exit."""
    if sys.argv[1:2] == ["check"]:
        from sidecar.commands import check  # noqa: PLC0415 (and nothing else)

        code = check.without_parser(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from sidecar import cli_commands  # noqa: PLC0415 (it loads click)

    cli_commands.main()

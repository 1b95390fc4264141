"""`python -m convsync_cli` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from convsync_cli.main import run  # noqa: PLC0415  # the first import worth timing

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

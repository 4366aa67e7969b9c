"""`python -m nlpcli` is the command `nlpcli`."""

from __future__ import annotations

import sys

from nlpcli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

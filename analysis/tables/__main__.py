"""Entry point of ``python -m analysis.tables``."""

import sys

from analysis.tables.command import main

if __name__ == "__main__":
    sys.exit(main())

"""Entry point of ``python -m analysis.benchmark``."""

import sys

from analysis.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())

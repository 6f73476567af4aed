"""Entry point of ``python -m analysis.benchmark.training``."""

import sys

from analysis.benchmark.training.command import main

if __name__ == "__main__":
    sys.exit(main())

"""Entry point of ``python -m sensitivity.sweep``."""

import sys

from sensitivity.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())

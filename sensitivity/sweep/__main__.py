"""Entry point of ``python -m sensitivity.sweep``."""

import sys

if __name__ == "__main__":
    try:
        from sensitivity.sweep.command import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages load
        sys.exit(130)

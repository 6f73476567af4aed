"""Entry point of ``python -m analysis.network``."""

import sys

if __name__ == "__main__":
    try:
        from analysis.network.command import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages load
        sys.exit(130)

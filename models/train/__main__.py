"""Entry point of ``python -m models.train``."""

import sys

if __name__ == "__main__":
    try:
        from models.train.command import main

        sys.exit(main())
    except KeyboardInterrupt:  # while the packages load
        sys.exit(130)

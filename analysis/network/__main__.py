"""Entry point of ``python -m analysis.network``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("analysis.network.command")

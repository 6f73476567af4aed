"""Entry point of ``python -m analysis.tables``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("analysis.tables.command")

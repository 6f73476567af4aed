"""Entry point of ``python -m analysis.attention``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("analysis.attention.command")

"""Entry point of ``python -m analysis.study``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("analysis.study.command")

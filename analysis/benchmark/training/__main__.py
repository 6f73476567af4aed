"""Entry point of ``python -m analysis.benchmark.training``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("analysis.benchmark.training.command")

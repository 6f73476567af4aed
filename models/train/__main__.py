"""Entry point of ``python -m models.train``."""

from models.runs.entry import start

if __name__ == "__main__":
    start("models.train.command")

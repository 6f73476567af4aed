"""Options as they are typed, in messages."""


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")

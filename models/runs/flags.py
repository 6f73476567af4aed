"""Options as they are typed, in messages."""


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def check_at_least(options: object, least: int, *names: str) -> None:
    """Refuse numbers that are too small; None is no number.

    Args:
        options: The dataclass.
        least: The smallest number allowed.
        names: Its fields.

    Raises:
        ValueError: Naming the option, its rule and the value.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise ValueError(f"{flag(name)} must be at least {least}, got {value}.")

"""The error of a value that an argument may not have."""


class ArgumentError(ValueError):
    """Names the argument, its rule and the value; a command says it of its option.

    Attributes:
        argument: Name of the argument, as in the signature.
        rule: What it must be, and what it is: ``"must be at least 1, got 0."``

    Example:
        >>> raise ArgumentError("T", "must be at least 1, got 0.")
        Traceback (most recent call last):
        sensitivity.arguments.ArgumentError: T must be at least 1, got 0.
    """

    def __init__(self, argument: str, rule: str):
        """Join both to the message."""
        super().__init__(f"{argument} {rule}")
        self.argument, self.rule = argument, rule


def check_at_least(least: float, **numbers: float | None) -> None:
    """Refuse numbers, by their arguments, that are too small or NaN; None is none."""
    for name, number in numbers.items():
        if number is not None and not number >= least:
            raise ArgumentError(name, f"must be at least {least}, got {number}.")

"""The skeleton of every command: options from the command line, faults as one line."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from models.runs.entry import INTERRUPTED, on_interrupt
from models.runs.flags import flag
from sensitivity.arguments import ArgumentError

STAYS = "what is finished stays, and the same command goes on."
Options = TypeVar("Options")


def run_command(
    kind: type[Options],
    run: Callable[[Options], int],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    default: Callable[[Sequence[str]], Options] | None = None,
    stays: Callable[[Options], str] = lambda _: STAYS,
) -> int:
    """Read the options, run the command, and turn what goes wrong into one line.

    Args:
        kind: The frozen dataclass of the options. A field ``out`` is its folder.
        run: What the command does; returns its status.
        argv: Arguments, by default the command line's.
        prog: What is typed: ``"python -m sensitivity.sweep"``.
        default: Default options for a command line, where they depend on it.
        stays: What is kept when the command stops half-way, in words.

    Returns:
        What ``run`` returns; 1 where a result is no number or a file cannot be written,
        2 for bad arguments or data, 130 after an interrupt.

    Raises:
        SystemExit: With 2 for arguments that cannot be read, with 0 after ``--help``.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse(kind, argv, prog=prog, default=default)
    except ValueError as error:  # raised by the options' own checks
        return fail(words_of(error), 2)
    before = on_interrupt(lambda: stays(options))
    try:
        return one_line(run, options, stays)
    finally:
        on_interrupt(before)


def parse(
    kind: type[Options],
    argv: Sequence[str],
    *,
    prog: str | None = None,
    default: Callable[[Sequence[str]], Options] | None = None,
) -> Options:
    """Read the options; see `run_command`.

    Args:
        kind: Their dataclass.
        argv: The arguments.
        prog: What is typed.
        default: Default options for a command line.

    Returns:
        The options.

    Raises:
        ValueError: By the options' own checks.
        SystemExit: With 2 for arguments that cannot be read, with 0 after ``--help``.
    """
    return tyro.cli(
        _call(kind, None if default is None else default(argv)),
        args=argv,
        prog=prog,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _call(kind: type[Options], default: Any) -> Callable[..., Options]:
    """What makes the options: of a class itself tyro prints the errors in a box."""
    fields = () if default is None else dataclasses.fields(default)
    return functools.partial(kind, **{f.name: getattr(default, f.name) for f in fields})


def one_line(
    run: Callable[[Options], int],
    options: Options,
    stays: Callable[[Options], str] = lambda _: STAYS,
) -> int:
    """Do the work of a command, also of one inside another, and report its faults.

    Args:
        run: What it does; returns its status.
        options: Its options.
        stays: What is kept when it stops half-way, in words.

    Returns:
        The status, as of `run_command`.

    Raises:
        BrokenPipeError: If nobody reads any more what is printed.
    """
    try:
        return run(options)
    except ArithmeticError as error:
        return fail(str(error), 1)
    except ValueError as error:
        return fail(words_of(error), 2)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or getattr(options, "out", None)
        place = "" if where is None else f" ({where})"
        return fail(f"{error.strerror or error}{place}; {stays(options)}", 1)
    except KeyboardInterrupt:
        return fail(f"interrupted; {stays(options)}", INTERRUPTED)


def words_of(error: ValueError) -> str:
    """What an error says, an argument in it as the option that is typed."""
    if isinstance(error, ArgumentError):
        return f"{flag(error.argument)} {error.rule}"
    return str(error)


def fail(message: str, status: int) -> int:
    """Print an error as one line; returns the status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status

"""The skeleton of every command: options from the command line, faults as one line."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from models.runs.compiled import compiled_programs
from models.runs.entry import INTERRUPTED, on_interrupt
from models.runs.flags import flag
from sensitivity.arguments import ArgumentError

STAYS = "what is finished stays, and the same command goes on."
_TAKE_MEMORY = ("max_memory", "seeds_at_once", "batch_size", "windows", "nodes")
Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Start:
    """What every command that compiles is asked besides its own options.

    Attributes:
        compile_cache: Whether compiled programs are kept in the user's cache folder,
            and taken from there; JAX_COMPILATION_CACHE_DIR names another folder.
    """

    compile_cache: bool = True


def run_command(
    kind: type[Options],
    run: Callable[[Options], int],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    default: Callable[[Sequence[str]], Options] | None = None,
    stays: Callable[[Options], str] = lambda _: STAYS,
    compiles: bool = True,
) -> int:
    """Read the options, run the command, and turn what goes wrong into one line.

    Args:
        kind: The frozen dataclass of the options. A field ``out`` is its folder.
        run: What the command does; returns its status.
        argv: Arguments, by default the command line's.
        prog: What is typed: ``"python -m sensitivity.sweep"``.
        default: Default options for a command line, where they depend on it.
        stays: What is kept when the command stops half-way, in words.
        compiles: Whether it has ``--no-compile-cache``; not what compiles nothing, or
            measures how long that takes.

    Returns:
        What ``run`` returns; 1 where a result is no number, a file cannot be written or
        a device is out of memory, 2 for bad arguments or data, 130 after an interrupt.

    Raises:
        SystemExit: With 2 for arguments that cannot be read, with 0 after ``--help``.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if compiles:
            options, start = _parse((kind, _Start), argv, prog, default)
        else:
            options, start = parse(kind, argv, prog=prog, default=default), None
    except ValueError as error:  # raised by the options' own checks
        return fail(words_of(error), 2)
    before = on_interrupt(lambda: stays(options))
    try:
        if start is None:
            return one_line(run, options, stays)
        with compiled_programs(start.compile_cache):
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
    return _parse((kind,), argv, prog, default)[0]


def _parse(
    kinds: Sequence[type], argv: Sequence[str], prog: str | None, default: Any
) -> list[Any]:
    """Read the fields of some dataclasses as one command line, named for the first."""
    # One class that checks nothing: each checks its own when it is made of what is
    # read, and tyro, which prints such errors in a box, is done by then.
    read = dataclasses.make_dataclass(
        kinds[0].__name__,
        (),
        bases=tuple(reversed(kinds)),
        namespace={"__doc__": kinds[0].__doc__, "__post_init__": lambda _: None},
        frozen=True,
        kw_only=True,
    )
    given = {} if default is None else _values(default(argv), kinds[0])
    read = tyro.cli(
        functools.partial(read, **given),
        args=argv,
        prog=prog,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return [kind(**_values(read, kind)) for kind in kinds]


def _values(made: Any, kind: Any) -> dict[str, Any]:
    return {f.name: getattr(made, f.name) for f in dataclasses.fields(kind)}


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
        RuntimeError: A fault of ours.
    """
    try:
        return run(options)
    except ArithmeticError as error:
        return fail(str(error), 1)
    except ValueError as error:
        return fail(words_of(error), 2)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        ways = [flag(n) for n in _names(options) if n in _TAKE_MEMORY] or ["the sizes"]
        why = f"the device has too little memory for this: lower {' or '.join(ways)}"
        return fail(f"{why}; {stays(options)}", 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or getattr(options, "out", None)
        place = "" if where is None else f" ({where})"
        return fail(f"{error.strerror or error}{place}; {stays(options)}", 1)
    except KeyboardInterrupt:
        return fail(f"interrupted; {stays(options)}", INTERRUPTED)


def _names(options: Any) -> list[str]:
    """Names of options, also of those in groups."""
    names = []
    for field in dataclasses.fields(options):
        own = getattr(options, field.name)
        names += _names(own) if dataclasses.is_dataclass(own) else [field.name]
    return names


def words_of(error: ValueError) -> str:
    """What an error says, an argument in it as the option that is typed."""
    if isinstance(error, ArgumentError):
        return f"{flag(error.argument)} {error.rule}"
    return str(error)


def fail(message: str, status: int) -> int:
    """Print an error as one line; returns the status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status

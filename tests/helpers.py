"""Random layers for the tests of ``sensitivity``, and how commands are run and read.

Few shapes, so that little compiles: all tests share them. Every array is NumPy's, of
float64. The oracle itself is `tests.reference`.
"""

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from sensitivity import AttentionWeights, ScoreBias, check_bounds, path_jacobians
from sensitivity.bounds import judge, measure
from sensitivity.equations import STATEMENTS
from tests import reference

NORMS: list[Any] = ["spectral", "frobenius"]
ENGINES: list[Any] = ["closed_form", "autodiff"]
LEVELS: list[Any] = ["head", "layer"]
PATHS = ("value", "key", "query", "total")
ROUNDING = 16 * np.finfo(float).eps


class Shape(NamedTuple):
    """Sizes of a layer and its input."""

    T: int
    D: int
    H: int
    K: int
    V: int
    output: int | None  # O; None without output projection
    biases: bool  # whether the projections have biases


PAPER = Shape(5, 4, 1, 3, 4, None, biases=False)
FOLDED = Shape(6, 6, 3, 2, 3, 6, biases=True)  # O = D per head and for the layer
TWO = Shape(6, 5, 2, 3, 4, 5, biases=True)  # O = D per head and for the layer, D odd
NARROW = Shape(4, 1, 2, 2, 3, 2, biases=True)  # D = 1, V > O
MANY = Shape(7, 8, 8, 2, 1, None, biases=True)  # O = D for the layer only
SHAPES = {"paper": PAPER, "folded": FOLDED, "narrow": NARROW, "many": MANY}


def make_weights(
    rng: np.random.Generator, shape: Shape, scale: float = 1.0
) -> AttentionWeights:
    """A layer with kernels N(0, scale^2 / D), and biases N(0, 1) where it has any."""
    _, D, H, K, V, output, biases = shape

    def normal(*size: int, fan: int = 1) -> np.ndarray:
        return rng.normal(size=size) / fan**0.5

    def bias(*size: int) -> np.ndarray | None:
        return normal(*size) if biases else None

    return AttentionWeights(
        query=scale * normal(D, H, K, fan=D),
        key=scale * normal(D, H, K, fan=D),
        value=scale * normal(D, H, V, fan=D),
        out=None if output is None else normal(H, V, output, fan=H * V),
        query_bias=bias(H, K),
        key_bias=bias(H, K),
        value_bias=bias(H, V),
        out_bias=None if output is None else bias(output),
    )


def make_layer(
    seed: int, shape: Shape, scale: float = 1.0
) -> tuple[np.ndarray, AttentionWeights]:
    """Inputs N(0, 1), shape (T, D), and a layer."""
    rng = np.random.default_rng(seed)
    weights = make_weights(rng, shape, scale)
    return rng.normal(size=(shape.T, shape.D)), weights


def make_array(seed: int, shape: Shape, kind: str) -> np.ndarray:
    """A score bias (H, T, T) of a kind that leaves every row i the step i + 1."""
    rng, (T, _, H, *_) = np.random.default_rng(seed), shape
    array = np.zeros((H, T, T)) if kind == "zero" else rng.normal(size=(H, T, T))
    if kind == "forbidding":
        array[rng.random(array.shape) < 0.4] = -np.inf
        steps = np.arange(T)
        array[:, steps, (steps + 1) % T] = 0.3
    return array


def make_case(
    seed: int, shape: Shape, kind: str, scale: float = 1.0, diagonal: float = 0.0
) -> tuple[np.ndarray, AttentionWeights, ScoreBias]:
    """Inputs, a layer and a score bias with an array of that kind."""
    score_bias = ScoreBias(diagonal, array=make_array(seed, shape, kind))
    return *make_layer(seed, shape, scale), score_bias


def full_bias(shape: Shape, score_bias: ScoreBias) -> np.ndarray:
    """The whole score bias (H, T, T), as the oracle wants it."""
    return reference.score_bias(
        shape.T, shape.H, score_bias.diagonal, score_bias.causal, score_bias.array
    )


def rounding_scale(x: Any, w: AttentionWeights, norm: str) -> np.ndarray:
    """About the bracket of s_i, shape (H, T), whatever may attend to what."""
    x, scales = np.asarray(x, float), []
    for n in range(w.heads):
        W_Q, W_K, W_V = (np.asarray(a)[:, n].T for a in (w.query, w.key, w.value))
        W_V = W_V if w.out is None else np.asarray(w.out)[n].T @ W_V
        q, k = (
            x @ W.T + (0 if b is None else np.asarray(b)[n])
            for W, b in ((W_Q, w.query_bias), (W_K, w.key_bias))
        )
        spread = np.linalg.norm((x - x.mean(0)) @ W_V.T, axis=1).max()
        gain = np.linalg.norm(q @ W_K, axis=1) + np.linalg.norm(k @ W_Q, axis=1).max()
        size = np.linalg.norm(W_V, reference.ORDER[norm])
        scales.append(size + spread * gain / len(W_Q) ** 0.5)
    return np.array(scales)


def slack(
    x: Any, w: AttentionWeights, norm: str, per_head: bool, dtype: Any = np.float64
) -> np.ndarray:
    """s_i of every head, shape (H, T, 1), or of the layer, shape (T, 1)."""
    scale = 16 * np.finfo(dtype).eps * rounding_scale(x, w, norm)
    return (scale if per_head else scale.sum(0))[..., None]


def assert_close(actual: Any, expected: Any, rtol: float, atol: Any = 0.0) -> None:
    """Equality up to rtol of the expected and an absolute part that broadcasts.

    Of several arrays, such as the fields of a tuple, each: expected by place or name.
    """
    if isinstance(actual, tuple):
        if isinstance(expected, dict):
            expected = [expected[field] for field in getattr(actual, "_fields", ())]
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other, rtol, atol)
        return
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    excess = np.abs(actual - expected) - rtol * np.abs(expected) - atol
    assert (excess <= 0).all(), f"{excess.max()} too far at {np.argmax(excess)}"


def residual_allowed(w: AttentionWeights, per_head: bool) -> bool:
    """Whether the identity can be added."""
    width = w.head_output_width if per_head else w.output_width
    return width == w.model_width


def mix_tolerance(w: AttentionWeights, norm: str, per_head: bool) -> float:
    """The relative tolerance the engines claim in float64."""
    mixed = norm == "spectral" and not per_head and w.heads > 1
    return 1e-9 if mixed else 1e-12


seeds = st.integers(0, 10**6)
scales = st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0])
diagonals = st.sampled_from([0.0, -0.1, -np.inf])
kinds = st.sampled_from(["zero", "normal", "forbidding"])


class Draw(NamedTuple):
    """What a case is drawn from, whatever its shape."""

    seed: int
    scale: float
    diagonal: float
    kind: str

    def of(self, shape: Shape) -> tuple[Any, AttentionWeights, ScoreBias, np.ndarray]:
        """Inputs, a layer, its score bias, and that as the oracle wants it."""
        drawn = make_case(self.seed, shape, self.kind, self.scale, self.diagonal)
        return *drawn, full_bias(shape, drawn[-1])


draws = st.builds(Draw, seeds, scales, diagonals, kinds)


def folded_values(w):
    """W^O W^V of every head, shape (H, O, D)."""
    value = np.moveaxis(np.asarray(w.value), 0, -1)
    if w.out is None:
        return value
    return np.einsum("hvo,hvd->hod", w.out, value)


def jacobians(x, w, score_bias=None):
    """Per head, as NumPy arrays (H, T, T, O, D)."""
    paths = path_jacobians(x, w, score_bias=score_bias, per_head=True)
    return jax.tree.map(np.asarray, paths)


def with_array(shape, array: Any = 0.0, diagonal=0.0):
    """A bias with an array of full size, so that one compilation serves all."""
    full = np.broadcast_to(array, (shape.H, shape.T, shape.T)).astype(float)
    return ScoreBias(diagonal, array=full)


PRINTED = ("eq8_diagonal_as_printed", "eq8_diagonal_as_printed_per_row")
TRUE = [name for name in STATEMENTS if name not in PRINTED]


def paper_layer(seed, T, d=16, s=1.0):
    """The setting of math.md section 4: x ~ N(0, 1), weights N(0, s^2 / d)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(T, d))
    kernels = rng.normal(size=(3, d, 1, d)) * s / d**0.5
    return x, AttentionWeights(*kernels)


def table_of(x, w, **options: Any):
    return check_bounds(x, w, **options).set_index("statement")


def judged(x, w, level: Any = "head", **options: Any):
    return judge(measure(x, w, levels=(level,), **options), level)


def assert_true_statements_hold(table):
    for name in TRUE:
        assert table.rows_holding[name] == table.rows[name], table.loc[name]


@contextlib.contextmanager
def compiles_fast() -> Iterator[None]:
    """Compile in half the time, to slower programs."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


# --- commands -------------------------------------------------------------------------


@functools.cache
def scratch() -> Path:
    """A folder for all tests of a session."""
    folder = tempfile.mkdtemp(prefix="tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def run(main: Callable[[list[str]], int], *words: object) -> int:
    """The status of a command."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:  # from the reader of the command line
        return int(str(stop.code))


def refusal(
    capsys: pytest.CaptureFixture,
    command: Callable[..., int],
    *arguments: object,
    status: int = 2,
) -> str:
    """What a command that fails with this status says on stderr, as one line."""
    capsys.readouterr()
    assert command(*arguments) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return " ".join(said.replace("│", " ").split())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and what they hold."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}

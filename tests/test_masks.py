"""What is forbidden has no influence; padding and empty rows make no verdict."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import ScoreBias, check_bounds, path_norms, profile
from sensitivity._row_groups import groups_of
from sensitivity.arguments import ArgumentError
from sensitivity.bounds import judge, measure
from tests.helpers import (
    ENGINES,
    LEVELS,
    PATHS,
    Shape,
    assert_close,
    make_weights,
    table_of,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

T = 12
WIDE = Shape(T, 8, 2, 4, 3, 8, biases=True)
QUICK = ("causal and padding", "per head", "finite")
STEPS = np.arange(T)
NO = -np.inf
LATE = STEPS >= 8  # the steps whose content moves
REAL = np.where(LATE, NO, 0.0)
CLOSE = np.where(abs(STEPS[:, None] - STEPS) <= 2, 0.0, NO)
PACKED = np.where(STEPS[:, None] // 4 == STEPS // 4, 0.0, NO)
FULL = (1, 2, T, T)  # of every array, so that little compiles

CAUSAL = np.where(np.tri(T, dtype=bool), 0.0, NO)

MASKS = {
    "padding": ScoreBias(array=np.broadcast_to(REAL, FULL)),
    "causal": ScoreBias(array=np.zeros(FULL), causal=True),
    "causal and padding": ScoreBias(array=np.broadcast_to(REAL + CAUSAL, FULL)),
    "window": ScoreBias(array=np.broadcast_to(CLOSE, FULL)),
    "packed": ScoreBias(array=np.broadcast_to(PACKED, FULL)),
    "per head": ScoreBias(array=np.stack([PACKED, CLOSE])[None]),
    "finite": ScoreBias(array=np.maximum(np.broadcast_to(REAL, FULL), -1e4)),
    "least": ScoreBias(
        array=np.maximum(np.broadcast_to(PACKED, FULL), np.finfo(np.float32).min)
    ),
}


def layer(factor: float = 1.0, scale: float = 1.0) -> tuple[np.ndarray, Any]:
    """Inputs, one sample, with the content of the late steps multiplied; a layer."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, T, 8))
    return np.where(LATE[:, None], factor * x, x), make_weights(rng, WIDE, scale)


# One mask of each kind in the quick tests: compiling takes the time.
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in MASKS
]
MEASURED = [
    ("frobenius", np.float64),
    pytest.param("spectral", np.float64, marks=pytest.mark.slow),
    pytest.param("frobenius", np.float32, marks=pytest.mark.slow),
    pytest.param("spectral", np.float32, marks=pytest.mark.slow),
]


def content(name: str, dtype: Any) -> float:
    """What forbidden content is multiplied by: no score may reach a finite mask."""
    return 1e3 if dtype is np.float32 or name == "finite" else 1e8


def far(score_bias: ScoreBias) -> np.ndarray:
    """Which rows of which head, (2, T), attend to no late step and are none."""
    allowed = np.asarray(score_bias.array)[0] > -1e3
    if score_bias.causal:
        allowed = allowed & np.tri(T, dtype=bool)
    return ~(allowed & LATE).any(-1) & ~LATE


@pytest.mark.parametrize(("norm", "dtype"), MEASURED)
@pytest.mark.parametrize("name", NAMES)
def test_forbidden_steps_change_no_norm_and_no_verdict(name, norm, dtype):
    mask = MASKS[name]
    rows = far(mask)
    assert rows.any(-1).all()
    eps = np.finfo(dtype).eps
    (x, w), (moved, _) = layer(), layer(content(name, dtype))
    x, moved, w, mask = jax.tree.map(dtype, (x, moved, w, mask))
    options: Any = {"score_bias": mask, "norm": norm}
    before, after = (profile(y, w, **options) for y in (x, moved))
    scale = np.asarray(before.rounding_scale)[0]
    for field in before._fields:
        one, two = (np.asarray(getattr(p, field))[0][rows] for p in (before, after))
        assert_close(two, one, 32 * eps, 4 * eps * scale[rows])
    for level in LEVELS:
        own = rows if level == "head" else rows.all(0)
        kept = own.all(0) if level == "head" else own
        options |= {"levels": (level,), "rows": kept}
        for one, two in zip(
            *(judge(measure(y, w, **options), level) for y in (x, moved)), strict=True
        ):
            np.testing.assert_array_equal(two.counted, one.counted)
            np.testing.assert_array_equal(
                two.holds[two.counted], one.holds[one.counted], one.statement
            )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_forbidden_steps_change_no_table(name, per_head, engine):
    mask = MASKS[name]
    rows = far(mask) if per_head else far(mask).all(0)
    options: Any = {"score_bias": mask, "norm": "frobenius", "per_head": per_head}
    (x, w), (moved, _) = layer(), layer(content(name, np.float64))
    before, after = (
        path_norms(y, w, engine=engine, residual=True, **options) for y in (x, moved)
    )
    for path in PATHS:
        one, two = (np.asarray(getattr(norms, path))[0] for norms in (before, after))
        assert_close(two[rows], one[rows], 1e-13, 1e-14 * one.max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("diagonal", [NO, -1e9])
def test_a_masked_diagonal_hides_a_steps_own_content(engine, diagonal):
    """Queries are constant here, so that a step moves its own row by its key alone."""
    (x, w), mask = layer(), ScoreBias(diagonal)
    w = dataclasses.replace(w, query=np.zeros_like(w.query))
    moved = np.where(STEPS[:, None] == 3, 1e8 * x, x)
    options: Any = {"score_bias": mask, "norm": "frobenius", "engine": engine}
    before, after = (path_norms(y, w, per_head=True, **options) for y in (x, moved))
    for path in PATHS:
        one, two = (
            np.asarray(getattr(norms, path))[0, :, 3] for norms in (before, after)
        )
        assert_close(two, one, 1e-12, 1e-13 * one.max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1e6, 1e12])
@pytest.mark.parametrize("mask", [ScoreBias(), MASKS["packed"]])
def test_equal_tokens_have_no_key_path_whatever_their_size(mask, size, engine):
    x, w = layer()
    x = np.broadcast_to(size * x[:, :1], x.shape)
    norms = path_norms(x, w, score_bias=mask, norm="frobenius", engine=engine)
    assert not np.asarray(norms.key).any()
    assert not np.asarray(norms.query).any()


def test_under_jit_a_minority_of_forbidden_steps_changes_nothing():
    (x, w), (moved, _), mask = layer(), layer(1e8), MASKS["packed"]

    @jax.jit
    def norms(x, array):
        return path_norms(x, w, score_bias=ScoreBias(array=array), norm="frobenius")

    before, after = (norms(y, jnp.asarray(mask.array)) for y in (x, moved))
    rows = far(mask).all(0)
    for one, two in zip(before, after, strict=True):
        one, two = np.asarray(one)[0][rows], np.asarray(two)[0][rows]
        assert_close(two, one, 1e-13, 1e-14 * one.max())


def test_groups_of_rows_share_a_step_and_are_few():
    for name, groups in (("padding", 1), ("causal", 1), ("window", 4), ("packed", 8)):
        allowed = np.asarray(MASKS[name].array) > NO
        if MASKS[name].causal:
            allowed = allowed & np.tri(T, dtype=bool)
        found = groups_of(allowed)
        assert len(found) == groups
        np.testing.assert_array_equal(np.unique(found), STEPS)
        for rows in found:
            assert allowed[:, :, rows].all(-2).any(-1).all()
    assert len(groups_of(~np.eye(T, dtype=bool))) == 2
    nothing = np.zeros((T, T), bool)
    nothing[4:, 5] = True
    assert len(groups_of(nothing)) == 1  # rows without a step go with any


@pytest.mark.parametrize("low", [-1e4, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_finite_mask_gives_the_verdicts_of_minus_infinity(low, dtype):
    """Rows of padding here have their own step alone, which counts nowhere else."""
    x, w = jax.tree.map(dtype, layer(30.0))
    lonely = np.where(LATE[:, None], np.where(np.eye(T, dtype=bool), 0, NO), REAL)
    lonely = np.broadcast_to(lonely, FULL).astype(dtype)
    tables = [
        table_of(x, w, score_bias=ScoreBias(array=array), norm="frobenius")
        for array in (lonely, np.maximum(lonely, dtype(low)))
    ]
    assert tables[0].rows["eq8_off_diagonal"] == 2 * 8
    for column in ("rows", "rows_holding"):
        assert tables[0][column].tolist() == tables[1][column].tolist()
    assert_close(tables[1].worst_ratio, tables[0].worst_ratio, 1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_weight_that_underflows_is_forbidden_in_every_count(dtype):
    """What such a mask forbids once counted as attended: 23 rows held, of 24 others."""
    x, w = jax.tree.map(dtype, layer(20.0, scale=1.5))
    alone = (STEPS == T - 1)[:, None]  # the last row may attend to its own step only
    mask = np.where(alone, np.where(np.eye(T, dtype=bool), 0.0, NO), REAL)
    counts = []
    for low in (NO, -1e4, -1e9, float(np.finfo(np.float32).min)):
        array = np.maximum(np.broadcast_to(mask, FULL), low).astype(dtype)
        table = table_of(x, w, score_bias=ScoreBias(array=array), norm="frobenius")
        counts.append(table[["rows", "rows_holding"]])
        assert counts[-1].equals(counts[0])
    printed = counts[0].loc["eq8_diagonal_as_printed_per_row"]
    assert printed.tolist() == [24, 16]
    assert counts[0].rows["eq8_off_diagonal"] == 22


# Rows that are left out.


@pytest.mark.parametrize("level", LEVELS)
def test_rows_that_are_left_out_count_nowhere(level):
    (x, w), (moved, _), mask = layer(), layer(50.0), MASKS["padding"]
    options: Any = {"score_bias": mask, "norm": "frobenius", "level": level}
    kept = ~LATE
    table = table_of(moved, w, rows=kept, **options)
    each = 2 if level == "head" else 1
    assert table.rows["eq5"] == 8 * each
    assert table.rows["eq8_diagonal_as_printed"] == each
    alone = {**options, "score_bias": ScoreBias(array=np.zeros((1, 2, 8, 8)))}
    short = table_of(x[:, :8], w, **alone)
    assert_close(table.rows_holding, short.rows_holding, 0)
    assert_close(table.worst_ratio, short.worst_ratio, 1e-12)
    assert_close(table.median_ratio, short.median_ratio, 1e-12)
    everything = table_of(moved, w, rows=np.ones((1, T), bool), **options)
    assert everything.equals(table_of(moved, w, **options))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros(T, bool), "rows must select at least one query row, got none"),
        (np.ones(T), r"rows must be booleans .* got float64 of shape \(12,\)"),
        (np.ones(5, bool), r"rows must be booleans .* \(1, 12\)"),
        (np.ones((2, 1, T), bool), r"rows must be booleans"),
    ],
)
def test_rows_of_another_kind_are_refused(rows, words):
    with pytest.raises(ArgumentError, match=words):
        check_bounds(*layer(), rows=rows)


def empty(causal: bool = False) -> ScoreBias:
    """A mask that leaves the last rows nothing."""
    array = np.where(LATE[:, None] | LATE, NO, 0.0)
    return ScoreBias(array=np.broadcast_to(array, FULL), causal=causal)


@pytest.mark.parametrize("function", [check_bounds, profile, path_norms])
def test_empty_rows_are_an_error_with_advice(function):
    with pytest.raises(ValueError, match=r"row i=8 nothing .*empty_rows='skip'"):
        function(*layer(), score_bias=empty())
    with pytest.raises(ArgumentError, match="empty_rows must be one of"):
        function(*layer(), empty_rows="ignore")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("engine", ENGINES)
def test_empty_rows_are_skipped_and_counted(level, engine):
    options: Any = {"norm": "frobenius", "level": level, "engine": engine}
    options["score_bias"] = empty()
    skipped = check_bounds(*layer(1e8), empty_rows="skip", **options)
    chosen = check_bounds(*layer(), rows=~LATE, **options)
    each = 2 if level == "head" else 1
    assert skipped.attrs["empty_rows"] == 4 * each
    assert chosen.attrs["empty_rows"] == 0  # those left out by rows are none
    assert skipped.set_index("statement").rows["eq5"] == 8 * each
    np.testing.assert_array_equal(skipped.rows_holding, chosen.rows_holding)
    assert_close(skipped.worst_ratio, chosen.worst_ratio, 1e-12)
    both = check_bounds(*layer(), rows=STEPS >= 7, empty_rows="skip", **options)
    assert both.attrs["empty_rows"] == 4 * each
    with pytest.raises(ValueError, match="no row that is judged anything"):
        check_bounds(*layer(), rows=LATE, empty_rows="skip", **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("per_head", [False, True])
def test_the_norms_of_an_empty_row_are_zero_but_for_the_residual(engine, per_head):
    options: Any = {"score_bias": empty(), "norm": "frobenius", "empty_rows": "skip"}
    norms = path_norms(
        *layer(), residual=True, engine=engine, per_head=per_head, **options
    )
    for path in ("value", "key", "query"):
        assert not np.asarray(getattr(norms, path))[..., LATE, :].any()
    identity = np.where(np.eye(T, dtype=bool)[LATE], 8**0.5, 0)
    total = np.asarray(norms.total)[..., LATE, :]
    assert_close(total, np.broadcast_to(identity, total.shape), 1e-14)


def test_a_diagonal_mask_beside_a_causal_one_leaves_the_first_row_nothing():
    bias = ScoreBias(NO, causal=True)
    table = check_bounds(*layer(), score_bias=bias, empty_rows="skip")
    assert table.attrs["empty_rows"] == 2
    rows = table.set_index("statement").rows
    assert rows.loc["eq8_diagonal_corrected"] == 22


# Masks of another kind.


def test_a_mask_of_integers_is_refused_with_advice():
    for mask in (np.tri(T, dtype=int), np.ones((T, T), np.int8)):
        with pytest.raises(ValueError, match=r"integers 0 and 1; .* np.where\(mask, 0"):
            ScoreBias(array=mask)
    for bias in (np.zeros((T, T), int), -np.eye(T, dtype=int), np.tri(T)):
        assert ScoreBias(array=bias).array is bias


@pytest.mark.parametrize(
    ("batch", "shape", "words"),
    [
        ((2,), (2, T, T), r"may mean samples or heads .*\(2, 1, 12, 12\) .*\(1, 2, 12"),
        ((3,), (3, T, T), r"has no axis of heads .*\(3, 1, 12, 12\) for a table per"),
        ((4, 2), (4, 2, T, T), r"may mean samples or heads .*\(4, 2, 1, 12, 12\)"),
        ((3,), (3, T), r"mask of keys per sample take mask\[..., None, None, :\]"),
        ((), (3, 2, T, T), r"must broadcast to \(..., H, T, T\) = \(2, 12, 12\)"),
    ],
)
def test_a_mask_without_an_axis_of_heads_is_refused(batch, shape, words):
    _, w = layer()
    x = np.zeros((*batch, T, 8))
    with pytest.raises(ValueError, match=words):
        path_norms(x, w, score_bias=ScoreBias(array=np.zeros(shape)))


def test_a_mask_per_head_needs_no_axis_of_samples_where_it_is_plain():
    x, w = layer()
    heads = np.asarray(MASKS["per head"].array)[0]
    options: Any = {"norm": "frobenius"}
    one = path_norms(x, w, score_bias=ScoreBias(array=heads), **options)
    two = path_norms(x, w, score_bias=ScoreBias(array=heads[None]), **options)
    assert_close(one, two, 1e-14)

"""A mask of steps alone is worked out in O(T), as the table of all pairs would be."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensitivity import ScoreBias
from sensitivity._centres import attended, centre_of, mean_of
from sensitivity._row_groups import _near, _row_groups, empty_rows, with_row_groups
from sensitivity.weights import least_bias

pytestmark = pytest.mark.usefixtures("strict_promotion")

T = 7
LEAST = least_bias(np.float32)
LOW = (0.0, -1.0, -50.0, -80.0, -100.0, -1e4, -np.inf)
DIAGONALS = (0.0, -0.1, 60.0, 100.0, -60.0, -100.0, -1e9, -np.inf)
RNG = np.random.default_rng(0)


def masks(count: int) -> list[ScoreBias]:
    """Biases of steps, three samples each, beside every diagonal."""
    found = []
    for n in range(count):
        array = RNG.choice(LOW, size=(3, 1, T), p=[0.4, *[0.1] * 6])
        diagonal, causal = DIAGONALS[n % len(DIAGONALS)], bool(RNG.random() < 0.5)
        found.append(ScoreBias(diagonal, causal=causal, array=array))
    return found


def of_pairs(mask: ScoreBias) -> ScoreBias:
    """The same mask as a table of all pairs."""
    array = np.array(np.broadcast_to(mask.array, (3, T, T)))
    return ScoreBias(mask.diagonal, causal=mask.causal, array=array)


def test_rows_under_a_mask_of_steps_are_grouped_so_that_they_share_one():
    more = 0
    for mask in masks(800):
        table = of_pairs(mask)
        np.testing.assert_array_equal(empty_rows(mask, T), empty_rows(table, T))
        groups = _row_groups(mask, T, LEAST)
        np.testing.assert_array_equal(np.unique(groups), np.arange(T))
        near = _near(table, T, LEAST)
        near |= ~near.any(-1, keepdims=True)
        for rows in groups:
            assert near[:, rows].all(-2).any(-1).all()
        more += len(groups) > len(_row_groups(table, T, LEAST))
    assert more < 80  # one group too many costs time, nothing else


def test_the_centre_under_a_mask_of_steps_is_that_of_the_table():
    x = jnp.asarray(RNG.normal(size=(T, 2)), jnp.float32)

    @jax.jit
    def both(mask, rows):
        near = attended(mask, rows, T, x.dtype)
        common = (near | ~near.any(-1, keepdims=True)).all(-2)
        some = common.any(-1, keepdims=True)
        own = jnp.where(some, mean_of(x, common), jnp.sort(x, axis=0)[T // 2])
        return centre_of(x, mask, rows, grouped=False), own

    for mask in masks(300):
        rows = np.sort(RNG.choice(T, size=3))
        mask = jax.tree.map(np.float32, mask)
        np.testing.assert_array_equal(*both(mask, rows))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("diagonal", [0.0, -0.1, -np.inf])
def test_a_long_padded_input_needs_no_table_of_pairs(diagonal, causal):
    length = 30_000
    padding = np.where(np.arange(length) < 20_000, 0, -1e9)[None, None].astype("f")
    mask = ScoreBias(diagonal, causal=causal, array=padding)
    tracemalloc.start()
    try:
        grouped = with_row_groups(mask, mask, length, np.float32)
        assert empty_rows(mask, length).sum() == (causal and diagonal == -np.inf)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert len(grouped.row_groups) <= 2
    x = jax.ShapeDtypeStruct((length, 4), np.float32)
    centre = jax.jit(lambda x: centre_of(x, mask, jnp.arange(length), grouped=True))
    analysis = centre.lower(x).compile().memory_analysis()
    assert analysis is None or analysis.temp_size_in_bytes < 16 * 2**20


@pytest.mark.parametrize(
    ("diagonal", "forbids", "nothing"),
    [(0.0, False, True), (-0.1, False, False), (-np.inf, True, False)],
)
def test_what_is_known_of_a_diagonal_is_known_inside_a_program(
    diagonal, forbids, nothing
):
    own, inside = ScoreBias(diagonal), []

    def look(bias):
        inside.append((bias.forbids, bias.is_nothing))
        return bias.diagonal

    jax.jit(look)(with_row_groups(own, own, T, np.float32))
    assert inside == [(forbids, nothing)]
    # Nothing is of a user's own, whose leaves may be changed.
    changed = jax.tree.map(lambda leaf: leaf - np.inf, own)
    assert changed.forbids
    jax.jit(look)(changed)
    assert inside[-1] == (True, False)

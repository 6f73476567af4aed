"""The printed diagonal line of Eq. 8 fails, and its corrected form does not."""

import numpy as np
import pytest

from sensitivity import ScoreBias, profile
from tests.layers import (
    PAPER,
    assert_close,
    make_layer,
)
from tests.verdicts import (
    PRINTED,
    assert_true_statements_hold,
    judged,
    paper_layer,
    table_of,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_the_printed_diagonal_line_fails_on_a_named_seed_and_the_corrected_holds():
    x, w = paper_layer(0, T=96)
    table = table_of(x, w)
    assert table.rows_holding["eq8_diagonal_as_printed"] == 0
    assert table.rows["eq8_diagonal_as_printed"] == 1
    assert table.worst_ratio["eq8_diagonal_as_printed"] > 1
    assert table.rows_holding["eq8_diagonal_corrected"] == 96


def test_the_printed_diagonal_line_fails_on_most_seeds_and_the_corrected_on_none():
    failing = 0
    for seed in range(40):
        table = table_of(*paper_layer(seed, T=96))
        failing += 1 - table.rows_holding["eq8_diagonal_as_printed"]
        assert_true_statements_hold(table)
    assert 0.8 <= failing / 40 < 1.0


def test_the_printed_line_fails_everywhere_under_a_full_mask_as_the_query_path_stays():
    x, w = paper_layer(0, T=48)
    mask = ScoreBias(diagonal=-np.inf)
    table = table_of(x, w, score_bias=mask)
    assert table.rows_holding["eq8_diagonal_as_printed"] == 0
    assert_true_statements_hold(table)
    statistics = profile(x, w, score_bias=mask)
    assert not np.asarray(statistics.diagonal_weight).any()
    assert np.asarray(statistics.query_norm).min() > 0.01
    printed = next(
        one for one in judged(x, w, score_bias=mask) if one.statement == PRINTED[0]
    )
    assert printed.bound == 1.0  # ||I||: nothing else is left of it
    assert printed.exact > 1.0


def test_the_mean_over_other_steps_needs_its_own_bound():
    """Divided by T - 1, the bound of Eq. 8 can fail where alpha_ii < 1 / T."""
    rows = failing = 0
    for seed in range(20):
        x, w = make_layer(seed, PAPER, scale=3.0)
        mask = ScoreBias(diagonal=-np.inf)
        lines = {one.statement: one for one in judged(x, w, score_bias=mask)}
        conditional = lines["eq8_off_diagonal_conditional"]
        assert conditional.holds.all()
        T = PAPER.T
        wrong = conditional.exact > lines["eq8_off_diagonal"].bound * (1 + 1e-9)
        assert_close(
            lines["eq8_off_diagonal"].exact * T / (T - 1), conditional.exact, 1e-14
        )
        rows, failing = rows + wrong.size, failing + wrong.sum()
    assert 0 < failing < rows


def test_the_mean_over_other_steps_can_only_exceed_where_the_diagonal_is_light():
    for seed in range(20):
        x, w = make_layer(seed, PAPER, scale=3.0)
        lines = {one.statement: one for one in judged(x, w)}
        wrong = lines["eq8_off_diagonal_conditional"].exact > (
            lines["eq8_off_diagonal"].bound * (1 + 1e-9)
        )
        light = np.asarray(profile(x, w).diagonal_weight) < 1 / PAPER.T
        assert not (wrong & ~light).any()

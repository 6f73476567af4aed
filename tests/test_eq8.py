"""The lines of Eq. 8: printed they fail, corrected they hold, tight they say much."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from sensitivity import ScoreBias, profile
from tests.helpers import (
    FOLDED,
    LEVELS,
    NORMS,
    PAPER,
    PRINTED,
    assert_close,
    assert_true_statements_hold,
    draws,
    judged,
    make_layer,
    paper_layer,
    table_of,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


# The lines that Eq. 8 should have had.


@pytest.mark.parametrize("norm", NORMS)
@given(draw=draws)
@settings(max_examples=25)
def test_the_tight_lines_hold_and_none_off_the_diagonal_is_looser_than_eq_8(norm, draw):
    x, w, score_bias, _ = draw.of(FOLDED)
    for level in LEVELS:
        options: Any = {"score_bias": score_bias, "norm": norm, "level": level}
        lines = {one.statement: one for one in judged(x, w, **options)}
        for name in ("eq8_off_diagonal_tight", "eq8_diagonal_tight"):
            assert lines[name].holds[lines[name].counted].all()
        tight, loose = (lines[f"eq8_off_diagonal{end}"].bound for end in ("_tight", ""))
        assert (tight <= loose * (1 + 1e-12)).all()
        both = lines["eq8_off_diagonal_tight"], lines["eq8_off_diagonal_conditional"]
        T = FOLDED.T
        tight, loose = (one.bound * n for one, n in zip(both, (T, T - 1), strict=True))
        assert (tight <= loose * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("T", "diagonal", "off", "corrected"),
    [
        (16, (1.3, 1.7), (1.2, 1.5), 4.0),
        pytest.param(64, (1.3, 1.6), (1.2, 1.5), 5.0, marks=pytest.mark.slow),
        pytest.param(256, (1.3, 1.7), (1.2, 1.5), 8.0, marks=pytest.mark.slow),
    ],
)
def test_the_tight_lines_do_not_loosen_with_the_number_of_steps(
    T, diagonal, off, corrected
):
    names = ("eq8_diagonal_tight", "eq8_off_diagonal_tight", "eq8_diagonal_corrected")
    medians = np.array(
        [
            [1 / table_of(*paper_layer(seed, T)).median_ratio[name] for name in names]
            for seed in range(5)
        ]
    )
    middle = np.median(medians, axis=0)
    assert diagonal[0] < middle[0] < diagonal[1]
    assert off[0] < middle[1] < off[1]
    assert middle[2] > corrected


# The printed diagonal line of Eq. 8 fails, and its corrected form does not.


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

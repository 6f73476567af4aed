"""The pictures of verdicts on trained layers show what their table says."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.plots.style import RED
from analysis.plots.verdicts import verdict_share, verdicts_by_step
from sensitivity.equations import STATEMENTS

PRINTED = "eq8_diagonal_as_printed"


def rows(lengths=(12,), steps=(0, 5)) -> pd.DataFrame:
    """Ten rows each; the printed line holds in 4, or 7 before training."""
    places = itertools.product(lengths, (0, 1), steps, (0, 1), ("0", "1"), STATEMENTS)
    return pd.DataFrame(
        [
            {
                "T": T,
                "source": "walk",
                "regularizer": "none",
                "norm": "spectral",
                "seed": seed,
                "head": head,
                "statement": statement,
                "median_ratio": 0.5,
                "rows": 10,
                "rows_holding": (7 if step == 0 else 4) if statement == PRINTED else 10,
                "run": "a",
                "layer": layer,
                "step": step,
            }
            for T, layer, step, seed, head, statement in places
        ]
    )


@pytest.mark.parametrize("lengths", [(12,), (12, 24)])
def test_shares_are_shown_by_layer_and_head(lengths):
    figure: Any = verdict_share(rows(lengths, steps=(5,)))
    printed, per_row, others = figure.axes[:3]
    cells = 2 * 2 * len(lengths)
    assert [text.get_text() for text in printed.texts] == ["40"] * cells
    assert [text.get_text() for text in others.texts] == ["100"] * cells
    assert [text.get_text() for text in per_row.texts] == ["100"] * cells
    names = [label.get_text() for label in printed.get_yticklabels()]
    assert names[0] == ("layer 0" if len(lengths) == 1 else "T=12, layer 0")
    assert len(names) == 2 * len(lengths)


def test_one_failing_statement_shows_among_all_others():
    table = rows(steps=(5,))
    here = (
        (table["statement"] == "eq7") & (table["layer"] == 1) & (table["head"] == "0")
    )
    table.loc[here, "rows_holding"] = 9
    figure: Any = verdict_share(table)
    others = figure.axes[2]
    assert [text.get_text() for text in others.texts] == ["100", "100", "90", "100"]


def test_verdicts_are_shown_from_the_first_to_the_last_step():
    figure: Any = verdicts_by_step(rows())
    left, right = figure.axes[:2]
    lines = {str(line.get_label()): line for line in left.get_lines()}
    printed = lines["Eq. 8 diagonal, as printed"]
    np.testing.assert_allclose(printed.get_xdata(), [0, 5])
    np.testing.assert_allclose(printed.get_ydata(), [70, 40])
    np.testing.assert_allclose(lines["least of all others"].get_ydata(), [100, 100])
    for line in right.get_lines()[:-1]:
        np.testing.assert_allclose(line.get_ydata(), [0.5, 0.5])


def test_runs_whose_steps_differ_are_lines_of_their_own():
    one, other = rows(steps=(0, 5)), rows(steps=(0, 7))
    other["run"], other["rows_holding"] = "a/b", 0
    figure: Any = verdicts_by_step(pd.concat([one, other]))
    left = figure.axes[0]
    drawn = [line for line in left.get_lines() if len(line.get_xdata()) == 2]
    printed = [line.get_ydata().tolist() for line in drawn if line.get_color() == RED]
    assert printed == [[70, 40], [0, 0]]
    words = [text.get_text() for text in left.get_legend().get_texts()]
    assert {"a", "a/b"} <= set(words)

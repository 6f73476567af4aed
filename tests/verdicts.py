"""Verdicts as the tests read them: tables by statement, and the rows behind them."""

from typing import Any

import numpy as np

from sensitivity import AttentionWeights, check_bounds
from sensitivity.bounds import judge, measure
from sensitivity.equations import STATEMENTS

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

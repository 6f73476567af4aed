"""Norms and bounds of heads of any form: rotary, normed, capped, with a sink."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from sensitivity import ScoreBias, check_bounds, path_norms, profile
from sensitivity._form_norms import form_path_norms
from sensitivity.forms import AttentionForm
from tests.helpers import FOLDED, NORMS, PAPER, PATHS, Shape, make_layer
from tests.test_forms import KINDS, formed, make_form

pytestmark = pytest.mark.usefixtures("strict_promotion")

BOUNDED = [kind for kind in KINDS if kind != "norm_scale"]
FALSE = ("eq8_diagonal_as_printed", "eq8_diagonal_as_printed_per_row")
# Each is seconds of compiling.
QUICK = {("llama", "frobenius"), ("all", "spectral")}
CASES = [
    pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow)
    for pair in itertools.product([*BOUNDED, "all"], NORMS)
]


def everything(shape: Shape) -> AttentionForm:
    """All parts that bounds are derived for, at once."""
    return dataclasses.replace(make_form("all", shape), norm_scale=None)


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_norms_without_blocks_are_those_of_blocks(kind, norm):
    for shape, bias in ((PAPER, ScoreBias()), (FOLDED, ScoreBias(-0.3, causal=True))):
        x, weights = make_layer(2, shape)
        form = everything(shape) if kind == "all" else make_form(kind, shape)
        weights = dataclasses.replace(weights, form=form)
        for residual in {False, weights.head_output_width == weights.model_width}:
            options: Any = {"norm": norm, "residual": residual, "per_head": True}
            blocks = path_norms(x, weights, score_bias=bias, **options)
            with jax.enable_x64(True):
                at, w, b = jax.tree.map(jax.numpy.asarray, (x, weights, bias))
                found = form_path_norms(at, w, b, norm, residual, True, "1GiB")
            for path in PATHS:
                np.testing.assert_allclose(
                    *(getattr(norms, path) for norms in (found, blocks)),
                    rtol=1e-9,
                    atol=1e-12,
                )


@pytest.mark.parametrize("norm", NORMS)
def test_a_form_that_does_nothing_has_the_profile_of_a_plain_head(norm):
    x, weights = make_layer(5, FOLDED)
    bias = ScoreBias(diagonal=-0.3, causal=True)
    same = dataclasses.replace(weights, form=AttentionForm(scale=FOLDED.K**-0.5))
    plain, other = (
        profile(x, layer, score_bias=bias, norm=norm) for layer in (weights, same)
    )
    for name in plain._fields:
        if name == "covariance_error":
            continue
        np.testing.assert_allclose(
            *(getattr(rows, name) for rows in (other, plain)),
            rtol=1e-8,
            atol=1e-12,
            err_msg=name,
        )


@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_what_is_true_holds_for_every_form(kind, norm):
    x, weights = formed("rotary", FOLDED)
    form = everything(FOLDED) if kind == "all" else make_form(kind, FOLDED)
    if form.added is not None:  # weights behind a softmax are not negative
        form = dataclasses.replace(form, added=np.abs(form.added))
    weights = dataclasses.replace(weights, form=form)
    for level in ("head", "layer"):
        table = check_bounds(
            x, weights, score_bias=ScoreBias(causal=True), norm=norm, level=level
        )
        true = table[~table["statement"].isin(FALSE)]
        assert (true["rows"] > 0).all()
        assert (true["rows_holding"] == true["rows"]).all(), (level, true)


def test_bounds_by_closed_form_are_those_by_automatic_differentiation():
    x, weights = make_layer(2, FOLDED)
    weights = dataclasses.replace(weights, form=everything(FOLDED))
    for level in ("head", "layer"):
        tables = [
            check_bounds(x, weights, level=level, engine=engine)
            for engine in ("closed_form", "autodiff")
        ]
        for column in ("worst_ratio", "median_ratio"):
            one, other = (table[column] for table in tables)
            np.testing.assert_allclose(one, other, rtol=1e-8)

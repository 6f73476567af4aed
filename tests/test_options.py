"""Options of the public functions, which a command names as they are typed."""

from typing import Any

import jax
import numpy as np
import pytest

from sensitivity import (
    check_bounds,
    path_norms,
    profile,
)
from sensitivity.arguments import ArgumentError
from tests.helpers import (
    ENGINES,
    FOLDED,
    LEVELS,
    MANY,
    NARROW,
    PAPER,
    make_layer,
    residual_allowed,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def layer(dtype: Any = np.float64, shape: Any = PAPER) -> Any:
    return jax.tree.map(dtype, make_layer(0, shape))


@pytest.mark.parametrize(
    ("function", "option"),
    [
        *((path_norms, option) for option in ("norm", "engine")),
        *((check_bounds, option) for option in ("norm", "engine", "level")),
        (profile, "norm"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(function, option):
    rule = rf"^{option} must be one of .* got 'nuclear'"
    with pytest.raises(ArgumentError, match=rule) as caught:
        function(*layer(), **{option: "nuclear"})
    assert caught.value.argument == option


@pytest.mark.parametrize("engine", ENGINES)
def test_a_residual_on_an_output_of_another_width_is_refused(engine):
    x, w = layer(shape=NARROW)
    for per_head in (False, True):
        with pytest.raises(ArgumentError, match="^residual needs .* O=2, D=1"):
            path_norms(x, w, residual=True, engine=engine, per_head=per_head)
        level: Any = "head" if per_head else "layer"
        with pytest.raises(ArgumentError, match="^residual needs .* O=2, D=1"):
            check_bounds(x, w, residual=True, engine=engine, level=level)
    with pytest.raises(ArgumentError, match="^residual needs .* O=2, D=1"):
        profile(x, w, residual=True)


@pytest.mark.parametrize("shape", [FOLDED, MANY, NARROW])
def test_there_is_a_residual_by_default_where_the_output_is_as_wide(shape):
    """FOLDED: of heads and layer; MANY: of the layer alone; NARROW: of neither."""
    x, w = layer(shape=shape)
    own: Any = {"norm": "frobenius"}
    for level in LEVELS:
        per_head = level == "head"
        chosen: Any = {"residual": residual_allowed(w, per_head)}
        tables = (path_norms(x, w, per_head=per_head, **own | o) for o in ({}, chosen))
        jax.tree.map(np.testing.assert_array_equal, *tables)
        one, other = (check_bounds(x, w, level=level, **own | o) for o in ({}, chosen))
        assert one.equals(other)
        assert ("have the identity" in one.attrs["identity"]) is chosen["residual"]
        if per_head:
            statistics = (profile(x, w, **own | o) for o in ({}, chosen))
            jax.tree.map(np.testing.assert_array_equal, *statistics)

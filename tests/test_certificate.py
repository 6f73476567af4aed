"""The whole-layer certificate of a head's Jacobian."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests import reference
from tests.layers import (
    Shape,
    folded_values,
    full_bias,
    jacobians,
    make_layer,
    scales,
    seeds,
    with_array,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

TWO = Shape(6, 5, 2, 3, 4, 5, biases=True)


@given(seed=seeds, scale=scales)
@settings(max_examples=25)
def test_the_spectral_norm_of_a_head_is_within_its_certificate(seed, scale):
    """Math.md section 5, the whole-layer certificate with b^Q."""
    x, w = make_layer(seed, TWO, scale)
    paths = jacobians(x, w, with_array(TWO))
    values = folded_values(w)
    alpha = reference.weights(x, w, full_bias(TWO, with_array(TWO)))
    R, root = np.linalg.norm(x, axis=1).max(), TWO.K**0.5
    for n in range(2):
        whole = np.moveaxis(paths.total[n], 2, 1).reshape(6 * 5, 6 * 5)
        product = np.linalg.norm(w.query[:, n] @ w.key[:, n].T, 2)
        offset = np.linalg.norm(w.key[:, n] @ w.query_bias[n])
        a, a_K = product * R**2 / root, (product * R + offset) * R / root
        column = alpha[n].sum(0).max() ** 0.5
        bound = np.linalg.norm(values[n], 2) * (column * (1 + a_K) + a)
        assert np.linalg.norm(whole, 2) <= bound * (1 + 1e-9)

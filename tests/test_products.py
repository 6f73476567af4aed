"""The products of attention are einsums, and so is every derivative of theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sensitivity._cpu_products import inner_products, weighted_sums

pytestmark = pytest.mark.usefixtures("strict_promotion")

R, T, K = 3, 4, 2
PRODUCTS = {
    "inner": (inner_products, "...ik,...jk->...ij", (R, K), (T, K)),
    "weighted": (weighted_sums, "...ij,...jv->...iv", (R, T), (T, K)),
}
BATCHES = {
    "none": ((), ()),
    "same": ((5, 2), (5, 2)),
    "shared left": ((), (5,)),  # broadcasting: derivatives are sums over the batch
    "shared right": ((5, 2), (1, 2)),
}


def case(name: str, batch: str):
    """The product, plain einsum in its place, two arguments, and two tangents."""
    product, subscripts, left, right = PRODUCTS[name]

    def plain(a, b):
        return jnp.einsum(subscripts, a, b)

    rng, (front, behind) = np.random.default_rng(0), BATCHES[batch]
    shapes = 2 * [(*front, *left), (*behind, *right)]
    a, b, da, db = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    return product, plain, (a, b), (da, db)


def agree(actual, expected) -> None:
    """The same to the last bits."""
    for one, two in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-14, atol=1e-14)


def total(function):
    """A scalar whose gradient differs from entry to entry."""
    return lambda *args: (function(*args) ** 2).sum()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_and_its_first_derivatives_are_those_of_einsum(name, batch):
    def derivatives(function):
        def both_modes(args, tangents):
            out, forward = jax.jvp(function, args, tangents)
            return out, forward, jax.vjp(function, *args)[1](forward)

        return jax.jit(both_modes)

    product, plain, args, tangents = case(name, batch)
    agree(derivatives(product)(args, tangents), derivatives(plain)(args, tangents))


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("only", [0, 1])
def test_derivatives_by_one_argument_alone_are_those_of_einsum(name, only):
    product, plain, args, _ = case(name, "same")
    for make in (
        lambda f: jax.grad(total(f), only),
        lambda f: jax.jacfwd(f, only),
        lambda f: jax.jacrev(f, only),
    ):
        agree(jax.jit(make(product))(*args), jax.jit(make(plain))(*args))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS)
def test_second_derivatives_are_those_of_einsum_in_every_order_of_modes(name):
    product, plain, args, _ = case(name, "none")
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            actual, expected = (
                jax.jit(outer(inner(total(f), (0, 1)), (0, 1)))(*args)
                for f in (product, plain)
            )
            agree(actual, expected)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 0)])
def test_products_and_gradients_run_under_vmap(name, axes):
    product, plain, (a, b), _ = case(name, "same")
    a = a[0] if axes[0] is None else (jnp.swapaxes(a, 0, 1) if axes[0] else a)
    b = b[0] if axes[1] is None else b
    for make in (lambda f: f, lambda f: jax.grad(total(f), (0, 1))):
        actual, expected = (
            jax.jit(jax.vmap(make(f), axes))(a, b) for f in (product, plain)
        )
        agree(actual, expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_are_finite_differences(name):
    product, _, args, _ = case(name, "same")
    check_grads(product, args, order=2, modes=["fwd", "rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_and_gradients_keep_the_dtype(name, dtype):
    product, _, args, _ = case(name, "same")
    args = tuple(arg.astype(dtype) for arg in args)
    assert product(*args).dtype == dtype
    gradients = jax.jit(jax.grad(total(product), (0, 1)))(*args)
    assert {gradient.dtype for gradient in gradients} == {np.dtype(dtype)}

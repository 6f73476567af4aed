"""The two norms, and what a table of path norms looks like."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sensitivity.arguments import ArgumentError

Norm = Literal["spectral", "frobenius"]
Engine = Literal["closed_form", "autodiff"]  # the fast one, and the reference


class PathNorms(NamedTuple):
    """Norms of the path Jacobians, one per query step i and source step j.

    Every field has shape (..., T, T), or (..., H, T, T) per head; entry ``[i, j]`` is
    the norm of the O x D block ``d o[i] / d x[j]`` along that path.

    Attributes:
        value: Through the values.
        key: Through the key of step j.
        query: Through the query of step i; zero unless i = j.
        total: Norm of the sum of the three, with the residual where asked for.
    """

    value: Float[Array, "*batch T T"]
    key: Float[Array, "*batch T T"]
    query: Float[Array, "*batch T T"]
    total: Float[Array, "*batch T T"]


class PathRows(NamedTuple):
    """Path norms of a block of R query rows, before they make a table."""

    value: Float[Array, "R T"]
    key: Float[Array, "R T"]
    total: Float[Array, "R T"]  # with ``diagonal`` where i = j
    query: Float[Array, " R"]  # ||J^query_ii||
    diagonal: Float[Array, " R"]  # ||J_ii||, with the residual where asked for
    same: Bool[Array, "R T"]  # whether i = j


def check_choice(name: str, value: str, choices: object) -> None:
    """Refuse an option that is none of its choices."""
    if value not in get_args(choices):
        rule = f"must be one of {get_args(choices)}, got {value!r}."
        raise ArgumentError(name, rule)


def power_of_two(size: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """A power of two near each size, in which squares neither over- nor underflow."""
    # Such a unit costs no digit. It is 1 where a size is zero, subnormal or infinite.
    info = jnp.finfo(size.dtype)
    unit = jax.lax.reduce_precision(jax.lax.stop_gradient(size), info.nexp, 0)
    normal = (unit >= info.tiny) & (unit < jnp.inf)
    return jnp.where(normal, unit, jnp.ones_like(unit))


def length(vectors: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
    """Euclidean lengths along the last axis, safe from over- and underflow."""
    unit = power_of_two(jnp.max(jnp.abs(vectors), axis=-1))
    return unit * root(jnp.sum((vectors / unit[..., None]) ** 2, axis=-1))


def gram(
    blocks: Float[Array, "*batch O D"],
) -> tuple[Float[Array, "*batch N N"], Float[Array, "*batch"]]:
    """The smaller Gram matrix of each block over its largest entry, and that entry."""
    # The largest singular value is that entry times the root of the Gram matrix's
    # largest eigenvalue, to full relative accuracy and without overflow.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(blocks), axis=(-2, -1)))
    scale = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    scaled = blocks / scale[..., None, None]
    if blocks.shape[-2] > blocks.shape[-1]:
        scaled = scaled.mT
    return scaled @ scaled.mT, scale


def frobenius(blocks: Float[Array, "*batch O D"]) -> Float[Array, "*batch"]:
    """Frobenius norms of a stack of matrices, safe from overflow of the squares."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(blocks), axis=(-2, -1)))
    scale = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    scaled = blocks / scale[..., None, None]
    return scale * root(jnp.sum(scaled**2, axis=(-2, -1)))


def along(
    matrices: Float[Array, "*batch N N"], vectors: Float[Array, "*batch N"]
) -> Float[Array, "*batch"]:
    """y^T M y for fixed y: of an eigenvector, the eigenvalue and its derivative."""
    return jnp.einsum("...a,...ab,...b->...", vectors, matrices, vectors)


@jax.custom_jvp
def root(square: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square root of what is not negative but for rounding; derivative 0 at 0."""
    return jnp.sqrt(jnp.maximum(square, 0))


@root.defjvp
def _root_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    norm = root(*primals)
    return norm, _half_over(norm, *tangents)


Norms = TypeVar("Norms")


def differentiated_by(
    squares: Callable[..., Norms],
) -> Callable[[Callable[..., Norms]], Callable[..., Norms]]:
    """Norms as a function gives them, differentiated as roots of some squares."""
    # So a norm may be found in a way that has no derivative, or no finite one. The
    # squares, of the norms and the same inputs, are traced only where a derivative is
    # asked for; what they lose where terms cancel is divided by the norm.

    def decorate(exact: Callable[..., Norms]) -> Callable[..., Norms]:
        @jax.custom_jvp
        def norms(*inputs: Any) -> Norms:
            return exact(*inputs)

        @norms.defjvp
        def rule(inputs: tuple, tangents: tuple) -> tuple[Norms, Norms]:
            found = norms(*inputs)
            still = jax.lax.stop_gradient(found)
            _, slopes = jax.jvp(lambda *a: squares(still, *a), inputs, tangents)
            return found, jax.tree.map(_half_over, found, slopes)

        return norms

    return decorate


def _half_over(norm: Array, slope: Array) -> Array:
    """Slope / (2 norm), 0 where the norm is: of |x| at 0 that is a subgradient."""
    safe = jnp.where(norm > 0, norm, jnp.ones_like(norm))
    return jnp.where(norm > 0, 0.5 / safe, jnp.zeros_like(norm)) * slope


def square_of_sum(
    scaled: Sequence[tuple[Float[Array, " R"], Float[Array, "V D"]]],
    u: Float[Array, "R V"],
    w: Float[Array, "R D"],
) -> Float[Array, " R"]:
    """Squared Frobenius norms of sum_k c_k B_k + u w^T for R rows of c, u and w."""
    # Formed a line of V at a time, so that nothing cancels and nothing is kept.
    factors, matrices = zip(*scaled, strict=True)

    def add(square: Array, line: tuple[Array, ...]) -> tuple[Array, None]:
        along, *lines = line
        formed = along[:, None] * w
        for factor, own in zip(factors, lines, strict=True):
            formed += factor[:, None] * own
        return square + jnp.sum(formed**2, -1), None

    zeros = jnp.zeros(len(u), u.dtype)
    return jax.lax.scan(add, zeros, (u.T, *matrices))[0]


def _along_top(norm: Array, blocks: Float[Array, "*batch O D"]) -> Array:
    del norm
    matrix, scale = gram(blocks)
    _, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(matrix))
    return scale**2 * along(matrix, vectors[..., -1])


@differentiated_by(_along_top)
def spectral(blocks: Float[Array, "*batch O D"]) -> Float[Array, "*batch"]:
    """Largest singular values of a stack of matrices, from the smaller Gram matrix."""
    matrix, scale = gram(blocks)
    return scale * root(jnp.linalg.eigvalsh(matrix)[..., -1])


def block_norm(
    blocks: Float[Array, "*batch O D"], norm: Norm
) -> Float[Array, "*batch"]:
    """Norms of a stack of matrices."""
    return spectral(blocks) if norm == "spectral" else frobenius(blocks)

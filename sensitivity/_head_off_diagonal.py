r"""Norms of one head's blocks off the diagonal, over the attention weight.

The Gram matrix of :math:`A + u_{ij} w_i^\top` is

.. math:: Y Y^\top + z z^\top, \qquad Y = A (I - \hat w \hat w^\top), \;
    z = A \hat w + |w| u_{ij}

where Y is the row's and z the pair's. So the Frobenius norm is a sum of squares, and
the spectral norm the largest root of a secular equation with positive terms only
(`sensitivity._rank_one`): nothing cancels, even under sharp attention.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from sensitivity._covariances import SMALL
from sensitivity._heads import Head, Rows
from sensitivity._rank_one import secular_root
from sensitivity.norms import root, square_of_sum


def distances(
    points: Float[Array, "R V"], others: Float[Array, "T V"]
) -> Float[Array, "R T"]:
    """Distances of all pairs, from differences: nothing cancels."""
    return root(_square_distances(-points, others))


def _square_distances(
    points: Float[Array, "R V"],
    others: Float[Array, "T V"],
    factor: Float[Array, " R"] | None = None,
) -> Float[Array, "R T"]:
    """|point + factor other|^2 of all pairs; the factor is 1 where there is none."""
    # Few columns written out are several times faster than a sum along a short axis.
    if points.shape[1] <= SMALL:
        by = 1 if factor is None else factor[:, None]
        columns = zip(points.T, others.T, strict=True)
        terms = ((p[:, None] + by * q) ** 2 for p, q in columns)
        return functools.reduce(jnp.add, terms)
    moving = others if factor is None else factor[:, None, None] * others
    return jnp.sum((points[:, None] + moving) ** 2, -1)


class _Parts(NamedTuple):
    """What z is made of, over a unit of each row."""

    direction: Float[Array, "R D"]  # w over |w|, 0 where that is
    along: Float[Array, "R V"]  # A times it
    shift: Float[Array, "R V"]  # what z is where v_j = 0
    reach: Float[Array, " R"]  # |w_i| in units of the values


def _parts(head: Head, row: Rows, unit: Float[Array, " R"]) -> _Parts:
    gain = row.gain
    direction = row.w / jnp.where(gain > 0, gain, jnp.ones_like(gain))[:, None]
    along = (direction @ head.factors.value.T) / unit[:, None]
    reach = gain * head.value_unit / unit
    return _Parts(direction, along, along - reach[:, None] * row.h, reach)


def frobenius_off_diagonal(
    head: Head, row: Rows, unit: Float[Array, " R"]
) -> Float[Array, "R T"]:
    """||A + u w^T||_F over a unit of each row."""
    parts = _parts(head, row, unit)
    A = [(1 / unit, head.factors.value)]
    across = square_of_sum(A, -parts.along, parts.direction)
    z = _square_distances(parts.shift, head.v, parts.reach)
    return jnp.sqrt(across[:, None] + z)


class Secular(NamedTuple):
    """The secular equations of a block of rows, over their squared units."""

    levels: Float[Array, "R V"]  # eigenvalues of Y Y^T, the largest first
    turn: Float[Array, "R V V"]  # its eigenvectors, one in each row
    z: Float[Array, "V R T"]  # in their basis
    gaps: Float[Array, "V R 1"]
    root: Float[Array, "R T"]


def gram_across(
    head: Head, row: Rows, unit: Float[Array, " R"]
) -> Float[Array, "R V V"]:
    """Y Y^T over the squared unit of each row."""
    # Y = A (I - w w^T), w a unit vector: with A = L B^T and b = B^T w, the matrix
    # L (I - b b^T)^(1/2) has the same Gram matrix. Of I - b b^T that root is
    # I - b b^T / (1 + c), c = (1 - |b|^2)^(1/2) = |w - B b|: nothing cancels.
    parts, basis = _parts(head, row, unit), head.factors.row_basis
    assert basis is not None  # kept for spectral norms
    inside = parts.direction @ basis
    c = jnp.sqrt(jnp.sum((parts.direction - inside @ basis.T) ** 2, -1))
    c = jnp.where(row.gain > 0, c, jnp.ones_like(c))
    turned = parts.along / (1 + c)[:, None]
    across = (head.factors.value @ basis) / unit[:, None, None]
    across -= turned[:, :, None] * inside[:, None, :]
    return across @ across.mT


def secular_of(
    head: Head,
    row: Rows,
    unit: Float[Array, " R"],
    solved: tuple[Float[Array, "R V"], Float[Array, "R V V"]],
) -> Secular:
    """Solve for all pairs, given eigenvalues and vectors of `gram_across`."""
    parts = _parts(head, row, unit)
    levels, vectors = solved
    levels, turn = jnp.maximum(levels[:, ::-1], 0), vectors[:, :, ::-1].mT
    shift = jnp.einsum("rab,rb->ar", turn, parts.shift)
    z = jnp.einsum("rab,tb->art", turn * parts.reach[:, None, None], head.v)
    z += shift[:, :, None]
    gaps = (levels[:, :1] - levels).T[:, :, None]
    return Secular(levels, turn, z, gaps, secular_root(z**2, gaps))


def spectral_off_diagonal(secular: Secular) -> Float[Array, "R T"]:
    """||A + u w^T||_2 over a unit of each row."""
    return jnp.sqrt(secular.levels[:, :1] + secular.root)


def top_left_vectors(secular: Secular) -> Float[Array, "R T V"]:
    """Of A + u w^T, in the coordinates of the values."""
    apart = secular.root + secular.gaps
    y = secular.z / jnp.where(apart > 0, apart, jnp.ones_like(apart))
    # Where the root is the first pole itself, the vector is that of Y.
    first = (jnp.arange(len(y)) == 0).astype(y.dtype)[:, None, None]
    y = jnp.where((secular.root > 0) & (apart > 0), y, first)
    size = jnp.abs(y).max(0)
    y = y / jnp.where(size > 0, size, jnp.ones_like(size))
    size = jnp.sqrt((y**2).sum(0))
    y = y / jnp.where(size > 0, size, jnp.ones_like(size))
    return jnp.einsum("art,rab->rtb", y, secular.turn)

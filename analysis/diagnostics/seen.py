"""A layer at its input as a diagnostic sees it, a few samples at a time."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from sensitivity import (
    AttentionWeights,
    LayerInput,
    PathNorms,
    ScoreBias,
    path_norms,
)
from sensitivity.attention import (
    AttentionTables,
    attention_tables,
    keys_of,
    queries_of,
    values_of,
)
from sensitivity.norms import Norm

# In the meaning of what is measured of `Seen.shares`.
BILINEAR = "scores that are x_i^T W_QK x_j"
SHARES = "weights that add up to 1, or else their shares of their row"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A layer at S samples of its input; what costs is computed when it is asked for.

    Attributes:
        x: The input, shape (S, T, D), float64 like all that follows.
        weights: The layer.
        score_bias: Its masks, and what else is added to its scores.
        residual: Whether its input is added to its output.
        norm: Norm of the Jacobians.
        rows: Which query rows are real, shape (S, T); None where all are. What is
            measured of the others is NaN, which counts nowhere.
    """

    x: Float[np.ndarray, "S T D"]
    weights: AttentionWeights
    score_bias: ScoreBias
    residual: bool
    norm: Norm
    rows: Bool[np.ndarray, "S T"] | None = None

    @cached_property
    def q(self) -> Float[np.ndarray, "S H T K"]:
        """Queries."""
        with jax.enable_x64(True):
            steps = np.arange(self.x.shape[-2])
            return np.asarray(queries_of(self.x, self.weights, steps))

    @cached_property
    def k(self) -> Float[np.ndarray, "S H T K"]:
        """Keys."""
        with jax.enable_x64(True):
            return np.asarray(keys_of(self.x, self.weights))

    @cached_property
    def v(self) -> Float[np.ndarray, "S H T V"]:
        """Values, before the output projection."""
        with jax.enable_x64(True):
            return np.asarray(values_of(self.x, self.weights))

    @cached_property
    def alpha(self) -> Float[np.ndarray, "S H T T"]:
        """Attention weights."""
        self._check_rows()
        return self._real(self._attention.alpha)

    @cached_property
    def allowed(self) -> Bool[np.ndarray, "S H T T"]:
        """Whether row i may attend to step j: neither forbidden nor driven to 0."""
        return np.asarray(self._attention.allowed)

    @cached_property
    def added(self) -> Float[np.ndarray, "*#S #H T T"]:
        """What is added to the scores; -inf is forbidden."""
        T = self.x.shape[-2]
        with jax.enable_x64(True):
            rows = self.score_bias.rows(np.arange(T), T, np.float64)
        bias, allowed = (np.asarray(part) for part in rows)
        return np.where(allowed, bias, -np.inf)

    @cached_property
    def scores(self) -> Float[np.ndarray, "S H T T"]:
        """Scores before the softmax, with what is added to them."""
        form = self.weights.form
        if form is None:
            return self.q @ self.k.mT * self.score_rate + self.added
        with jax.enable_x64(True):
            return np.asarray(form.scores(jnp.asarray(self.q), self.k)) + self.added

    @property
    def is_softmax(self) -> bool:
        """Whether the weights are the softmax of the scores, and add up to 1."""
        form = self.weights.form
        return form is None or form.is_softmax

    @property
    def score_rate(self) -> float:
        """What products of queries and keys are multiplied by."""
        form, K = self.weights.form, self.weights.key_width
        return K**-0.5 if form is None else form.rate(K)

    @property
    def is_bilinear(self) -> bool:
        """Whether scores are x_i^T W_QK x_j, but for biases."""
        form = self.weights.form
        return form is None or form.is_bilinear

    @cached_property
    def adds_to_one(self) -> bool:
        """Whether the weights of every row do, up to rounding in float32."""
        gap = 0 if self.is_softmax else np.abs(self.alpha.sum(-1) - 1)
        return not np.any(gap > 1e-5)

    @cached_property
    def shares(self) -> Float[np.ndarray, "S H T T"]:
        """The weights over the sum of their row, 1 or less; NaN where that is 0."""
        if self.adds_to_one:
            return self.alpha
        total = self.alpha.sum(-1, keepdims=True)
        missing = np.full_like(self.alpha, np.nan)
        return np.divide(self.alpha, total, where=total > 0, out=missing)

    @cached_property
    def h(self) -> Float[np.ndarray, "S H T V"]:
        """Attended values alpha V; NaN in rows left out."""
        return self.alpha @ self.v

    @cached_property
    def projected(self) -> Float[np.ndarray, "S H T V"]:
        """Attended values as the output projection takes them, normed if they are."""
        form = self.weights.form
        return self.h if form is None else np.asarray(form.normed(self.h))

    @cached_property
    def real(self) -> Bool[np.ndarray, "S T"]:
        """Which query rows count."""
        shape = self.x.shape[:2]
        return np.ones(shape, bool) if self.rows is None else self.rows

    @cached_property
    def sources(self) -> Bool[np.ndarray, "S H T"]:
        """The steps that some real row may attend to: not those of padding."""
        return np.any(self.allowed & self.real[:, None, :, None], -2)

    @cached_property
    def sources_of_layer(self) -> Bool[np.ndarray, "S T"]:
        """The steps that some real row may attend to with some head."""
        return np.any(self.sources, 1)

    @cached_property
    def causal(self) -> bool:
        """Whether no real row may attend to a later step."""
        late = np.triu(np.ones(self.x.shape[-2:-1] * 2, bool), 1)
        return not (self.allowed & late & self.real[:, None, :, None]).any()

    @cached_property
    def heads(self) -> PathNorms:
        """Norms of the Jacobians by path, head by head, shape (S, H, T, T)."""
        if self.weights.heads == 1:
            return jax.tree.map(lambda table: table[:, None], self.layer)
        return self._norms(residual=False, per_head=True)

    @cached_property
    def layer(self) -> PathNorms:
        """The same of the whole layer, its heads summed, shape (S, T, T)."""
        return self._norms(residual=False)

    @cached_property
    def with_residual(self) -> Float[np.ndarray, "S T"] | None:
        """Norms of ``I + J_ii`` of the whole layer; None without a residual."""
        # No function of the norms without the identity: `path_norms` is asked again.
        if not self.residual:
            return None
        return np.einsum("sii->si", self._norms(residual=True).total)

    @cached_property
    def _attention(self) -> AttentionTables:
        return attention_tables(self.x, self.weights, **self._masks)

    @property
    def _masks(self) -> dict[str, Any]:
        empty_rows = "error" if self.rows is None else "skip"
        return {"score_bias": self.score_bias, "empty_rows": empty_rows}

    def _check_rows(self) -> None:
        """Refuse real rows with nothing to attend to; without ``rows`` all are."""
        if self.rows is None:
            return
        lost = self.rows[:, None] & ~self.allowed.any(-1)
        if lost.any():
            sample, _, i = np.argwhere(lost)[0]
            raise ValueError(
                f"rows must leave out row i={i} of sample {sample}, which score_bias "
                "leaves nothing to attend to."
            )

    def _norms(self, **how: Any) -> PathNorms:
        self._check_rows()
        found = path_norms(self.x, self.weights, norm=self.norm, **self._masks, **how)
        return jax.tree.map(self._real, found)

    def _real(self, table: Any) -> np.ndarray:
        """A table whose rows that are none are NaN, shape (S, ..., T, T)."""
        if self.rows is None:
            return np.asarray(table)
        S, T = self.rows.shape
        kept = self.rows.reshape(S, *[1] * (np.ndim(table) - 3), T, 1)
        return np.where(kept, table, np.nan)


def look(layer: LayerInput, norm: Norm) -> Iterator[Seen]:
    """A layer at the entries of the first axis of x, so that memory does not grow."""
    x = np.asarray(layer.x, np.float64)
    T, D = x.shape[-2:]
    x = x.reshape((1,) * max(0, 3 - x.ndim) + x.shape)
    batch, bias = x.shape[:-2], layer.score_bias
    weights = jax.tree.map(lambda a: np.asarray(a, np.float64), layer.weights)
    rows = layer.rows
    if rows is not None:
        rows = np.broadcast_to(rows, (*batch, T)).reshape(batch[0], -1, T)
    ahead = np.shape(bias.array)[:-3]  # without a size of samples it stays one table
    by_sample = any(size > 1 for size in ahead)
    if len(ahead) > 1 and not by_sample:
        alike = np.reshape(bias.array, (1, *np.shape(bias.array)[-3:]))
        bias = dataclasses.replace(bias, array=alike)
    array = np.asarray(bias.array) if by_sample else None
    if array is not None:
        array = np.broadcast_to(array, (*batch, *array.shape[-3:]))
        array = array.reshape(batch[0], -1, *array.shape[-3:])
    for number, samples in enumerate(x.reshape(batch[0], -1, T, D)):
        if array is not None:
            bias = dataclasses.replace(bias, array=array[number])
        yield Seen(
            x=samples,
            weights=weights,
            score_bias=bias,
            residual=layer.residual,
            norm=norm,
            rows=None if rows is None else rows[number],
        )

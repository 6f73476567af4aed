"""How the time steps of a node mix: attention, or a causal convolution in its place."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from models.config import ForecasterConfig
from models.layers import (
    Mixing,
    ResidualLayer,
    coin,
    dropout,
    linear,
    narrow,
    uniform,
    wide,
)
from models.penalties import (
    SHUT,
    learned_gates,
    mask_of_gates,
    query_penalty,
    spectrum_penalty,
)
from sensitivity.attention import attend, attention_weights, keys_of, queries_of
from sensitivity.forms import AttentionForm
from sensitivity.weights import AttentionWeights, ScoreBias


class TemporalAttention(Mixing):
    """Multi-head self-attention over time, (..., T, D) to (..., T, D).

    It holds weights; `sensitivity.attention.attend` computes, so that what is analysed
    is what runs.
    """

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs):
        D, H = config.width, config.temporal.heads
        K = D // H
        # As PyTorch: one Xavier draw for the three stacked projections, biases 0.
        bound = (6 / (D + 3 * D)) ** 0.5
        self.query = nnx.Param(uniform(rngs.params(), (D, H, K), bound))
        self.key = nnx.Param(uniform(rngs.params(), (D, H, K), bound))
        self.value = nnx.Param(uniform(rngs.params(), (D, H, K), bound))
        self.out = nnx.Param(uniform(rngs.params(), (H, K, D), D**-0.5))
        self.query_bias = nnx.Param(jnp.zeros((H, K), jnp.float32))
        self.key_bias = nnx.Param(jnp.zeros((H, K), jnp.float32))
        self.value_bias = nnx.Param(jnp.zeros((H, K), jnp.float32))
        self.out_bias = nnx.Param(jnp.zeros(D, jnp.float32))
        T, temporal = config.window, config.temporal
        if temporal.attention == "conjoint":
            self.lag_bias = nnx.Param(jnp.zeros((H, 2 * T - 1), jnp.float32))
            self.mixture = nnx.Param(jnp.zeros((H, 2), jnp.float32))
        if temporal.head_norm == "rms":
            self.norm_scale = nnx.Param(jnp.ones(K, jnp.float32))
        if temporal.regularizer == "learned-mask":
            draw = jax.random.normal(rngs.params(), (H, T, 2), jnp.float32)
            self.gates = nnx.Param(1e-3 * draw)
        self.config = config

    def weights(self) -> AttentionWeights:
        """The layer as `sensitivity` reads it."""
        return AttentionWeights(
            query=self.query[...],
            key=self.key[...],
            value=self.value[...],
            out=self.out[...],
            query_bias=self.query_bias[...],
            key_bias=self.key_bias[...],
            value_bias=self.value_bias[...],
            out_bias=self.out_bias[...],
            form=self.form(),
        )

    def form(self) -> AttentionForm | None:
        """What it does beside the softmax of its scores."""
        temporal, T = self.config.temporal, self.config.window
        if not temporal.has_form:
            return None
        given: dict[str, Array] = {}
        if temporal.attention == "softmax-1":
            given["sink"] = jnp.zeros(temporal.heads, self.query.dtype)
        if temporal.attention == "conjoint":
            shares = jax.nn.softmax(self.mixture[...], -1)
            steps = jnp.arange(T)
            bias = self.lag_bias[...][:, steps[:, None] - steps + T - 1]
            given["gain"] = shares[:, 0]
            given["added"] = shares[:, 1, None, None] * jax.nn.softmax(bias, -1)
        if temporal.head_norm == "rms":
            given["norm_scale"] = self.norm_scale[...]
        return AttentionForm(**given)

    def score_bias(self, key: Key[Array, ""] | None = None) -> ScoreBias:
        """What the regularizer adds to the scores.

        Args:
            key: What the dropout of the diagonal, or a learned mask, is drawn from: one
                draw for all nodes and samples. None is evaluation, which draws nothing.

        Returns:
            The bias.
        """
        temporal, T = self.config.temporal, self.config.window
        match temporal.regularizer:
            case "mask":
                return ScoreBias(diagonal=-jnp.inf)
            case "penalty":
                return ScoreBias(diagonal=temporal.penalty)
            case "dropout" if key is not None:
                dropped = coin(key, temporal.diagonal_dropout, (T,))
                forbidden = jnp.asarray(-jnp.inf, self.query.dtype)
                return ScoreBias(array=jnp.where(jnp.diag(dropped), forbidden, 0))
            case "learned-mask":
                mask = mask_of_gates(learned_gates(self.gates[...], key))
                # An axis of samples in front: else as many samples as heads would
                # be asked whose tables these are.
                return ScoreBias(array=(1 - mask)[None] * SHUT)
        return ScoreBias()

    def attention(self, x: Float[Array, "*batch T D"]) -> Float[Array, "*batch H T T"]:
        """Attention weights in evaluation, for the layer's own input."""
        x, weights = narrow((x, self.weights()), self.config.precision)
        rows, form = jnp.arange(x.shape[-2]), weights.form
        q, k = queries_of(x, weights, rows), keys_of(x, weights)
        alpha, _ = attention_weights(q, k, self.score_bias(), rows, form)
        return alpha if form is None else form.weights(alpha, rows)

    def penalty(
        self, x: Float[Array, "*batch T D"], key: Key[Array, ""]
    ) -> Float[Array, ""]:
        """What the regularizer adds to the loss, for the input and key of a call."""
        temporal, bias_key = self.config.temporal, jax.random.split(key)[0]
        match temporal.regularizer:
            case "query":
                # What the call computes too, the compiler makes once.
                x, weights = narrow((x, self.weights()), self.config.precision)
                layer = (x, weights, self.score_bias())
                return temporal.query_weight * query_penalty(*layer, bias_key)
            case "spectrum":
                return spectrum_penalty(
                    self.weights(),
                    scale=temporal.spectrum_weight,
                    trace=temporal.trace_weight,
                    target=temporal.trace_target,
                    size=temporal.spectrum_size,
                )
            case "learned-mask":
                mask = mask_of_gates(learned_gates(self.gates[...], bias_key))
                return temporal.mask_weight * mask.sum()
        return super().penalty(x, key)

    def __call__(
        self, x: Float[Array, "*batch T D"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "*batch T D"]:
        """Attend; a key is what dropout is drawn from, None is evaluation."""
        x, weights = narrow((x, self.weights()), self.config.precision)
        factor = bias_key = None
        if key is not None:
            bias_key, factor_key = jax.random.split(key)
            if self.config.dropout:
                T, H = x.shape[-2], weights.heads
                ones = jnp.ones((*x.shape[:-2], H, T, T), self.query.dtype)
                factor = dropout(ones, self.config.dropout, factor_key)
        bias = self.score_bias(bias_key)
        return wide(attend(x, x, x, weights, bias, weight_factor=factor))


class CausalConvolution(Mixing):
    r"""A causal convolution over time in place of attention, shapes as there.

    .. math:: y_t = \mathrm{relu}(b + \sum_{p=0}^{P-1} W_p x_{t-p}), \qquad x_t = 0
        \text{ for } t < 0

    References:
        Marisca et al., arXiv 2506.15507, 2025 (the temporal layer of an MPTCN).
    """

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs):
        self.taps = config.temporal.taps
        self.mix = linear(
            self.taps * config.width,
            config.width,
            precision=config.precision,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "*batch T D"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "*batch T D"]:
        """Convolve; nothing is dropped, whatever the key."""
        T = x.shape[-2]
        front = [(0, 0)] * (x.ndim - 2) + [(self.taps - 1, 0), (0, 0)]
        padded = jnp.pad(x, front)
        starts = range(self.taps - 1, -1, -1)  # of x_t, x_{t-1}, ...
        lags = [padded[..., start : start + T, :] for start in starts]
        return wide(jax.nn.relu(self.mix(jnp.concatenate(lags, -1))))


class TemporalLayer(ResidualLayer):
    """Mixes the steps of every node, by attention or by a convolution."""

    def __init__(self, config: ForecasterConfig, *, rngs: nnx.Rngs):
        kinds = {"attention": TemporalAttention, "convolution": CausalConvolution}
        mix = kinds[config.temporal.kind](config, rngs=rngs)
        residual = config.temporal.residual
        super().__init__(mix, config, residual=residual, rngs=rngs)

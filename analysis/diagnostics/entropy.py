"""How evenly a row of attention spreads over the steps."""

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.diagnostics.diagnostic import Diagnostic, Panel
from analysis.diagnostics.seen import SHARES, Seen


def attention_entropy(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """-sum_j alpha_ij log alpha_ij, in nats: from 0, all on one step, to log T."""
    logs = np.log(alpha, where=alpha > 0, out=np.zeros_like(alpha))
    return np.abs((alpha * logs).sum(-1))


def effective_steps(
    alpha: Float[np.ndarray, "*batch T T"],
) -> Float[np.ndarray, "*batch T"]:
    """As many steps, attended equally, have the same entropy: from 1 to T."""
    return np.exp(attention_entropy(alpha))


def relative_entropy(
    alpha: Float[np.ndarray, "*batch T T"], allowed: Bool[np.ndarray, "*#batch #T T"]
) -> Float[np.ndarray, "*batch T"]:
    """`attention_entropy` over log n_i, n_i the steps row i may attend to."""
    # From 0 (all on one step) to 1; NaN where a row may attend to one step only.
    steps = np.maximum(allowed.sum(-1), 1)
    most = np.log(np.broadcast_to(steps, alpha.shape[:-1]))
    missing = np.full(most.shape, np.nan)
    return np.divide(attention_entropy(alpha), most, where=most > 0, out=missing)


def score_norm(
    scores: Float[np.ndarray, "*batch T T"], allowed: Bool[np.ndarray, "*batch T T"]
) -> Float[np.ndarray, "*batch T"]:
    """Norm of a row of scores less their mean, of the steps it may attend to."""
    kept = np.where(allowed, scores, 0)
    mean = kept.sum(-1, keepdims=True) / np.maximum(allowed.sum(-1, keepdims=True), 1)
    # Squares must not overflow; a norm of 1e9 has a bound of exactly 0.
    centred = np.where(allowed, np.clip(kept - mean, -1e9, 1e9), 0)
    return np.linalg.norm(centred, axis=-1)


def largest_score_norm(
    rows: Float[np.ndarray, "S T E"],
    steps: Float[np.ndarray, "S T D"],
    query: Float[np.ndarray, "E H K"],
    key: Float[np.ndarray, "D H K"],
) -> Float[np.ndarray, "S H 1"]:
    """||W^Q W^K^T|| ||X|| ||X|| / sqrt K, spectral norms: of no row is it more."""
    query, key = query.swapaxes(0, 1), key.swapaxes(0, 1)
    product = np.linalg.qr(query, mode="r") @ key.mT  # as large as W^Q W^K^T
    norms = [np.linalg.norm(part, 2, (-2, -1)) for part in (product, rows, steps)]
    return np.einsum("h,s,s->sh", *norms)[..., None] / query.shape[-1] ** 0.5


def entropy_bound(
    score_norm: Float[np.ndarray, "*batch T"], steps: Int[np.ndarray, "*batch T"]
) -> Float[np.ndarray, "*batch T"]:
    """Least entropy of a row of n steps, its centred scores of norm s or less."""
    # In the row that has it one step stands out from all others by this gap.
    others = np.maximum(steps - 1, 0)
    gap = score_norm * np.sqrt(steps / np.maximum(others, 1))
    rest = others * np.exp(-gap)  # weight of the others over that of the one
    return np.log1p(rest) + gap * rest / (1 + rest)


def _of_rows(
    seen: Seen, score_norm: Float[np.ndarray, "S H T"]
) -> Float[np.ndarray, "S H T"]:
    bound = entropy_bound(score_norm, seen.allowed.sum(-1))
    return np.where(np.isnan(seen.alpha).any(-1), np.nan, bound)


def _by_scores(seen: Seen) -> Float[np.ndarray, "S H T"]:
    if not seen.is_softmax:
        return _unknown(seen)
    return _of_rows(seen, score_norm(seen.scores, seen.allowed))


def _unknown(seen: Seen) -> Float[np.ndarray, "S H T"]:
    return np.full(seen.alpha.shape[:-1], np.nan)


def _by_weights(seen: Seen) -> Float[np.ndarray, "S H T"]:
    if not (seen.is_softmax and seen.is_bilinear):
        return _unknown(seen)
    # A query bias is one more row of W^Q, which meets a column of ones; what a key
    # bias adds is the same for all steps, and leaves with the mean.
    weights, rows, query = seen.weights, seen.x, seen.weights.query
    if weights.query_bias is not None:
        rows = np.concatenate([rows, np.ones_like(rows[..., :1])], -1)
        query = np.concatenate([query, weights.query_bias[None]])
    attended = (seen.allowed & seen.real[:, None, :, None]).max((1, 2))
    rows = np.where(seen.real[..., None], rows, 0)
    steps = np.where(attended[..., None], seen.x, 0)
    added = np.broadcast_to(seen.added, seen.alpha.shape)
    most = largest_score_norm(rows, steps, query, weights.key)
    most *= abs(seen.score_rate) * weights.key_width**0.5
    return _of_rows(seen, most + score_norm(added, seen.allowed))


_SOFTMAX = "a row that counts, of a plain softmax"
_NATS = Panel("Attention entropy (nats)", power_law=False)
ENTRIES = (
    Diagnostic(
        name="entropy",
        label="relative entropy",
        meaning="relative entropy: mean entropy of a row of attention over that of "
        "uniform attention, the log of the number of steps it may attend to; of "
        f"{SHARES}",
        source="Zhai et al., arXiv 2303.06296, over its largest value",
        function=lambda seen: relative_entropy(seen.shares, seen.allowed),
        needs="a row that may attend to two steps or more",
        uniform=lambda _: 1.0,
    ),
    Diagnostic(
        name="attention_entropy",
        label="attention entropy (nats)",
        meaning="mean entropy of a row of attention in nats, -sum_j alpha_ij log "
        f"alpha_ij, of {SHARES}; `entropy` is the relative one",
        source="Zhai et al., arXiv 2303.06296",
        function=lambda seen: attention_entropy(seen.shares),
        uniform=lambda T: float(np.log(T)),
        column=4,
        short="entropy (nats)",
        panel=_NATS,
    ),
    Diagnostic(
        name="effective_steps",
        label="attended steps",
        meaning="exp of the entropy of a row of attention in nats, mean over rows: as "
        f"many steps, attended equally, have that entropy; of {SHARES}",
        source="Hill, Ecology 54, 1973: the number of order 1",
        function=lambda seen: effective_steps(seen.shares),
        uniform=float,
        column=4,
        short="attend. steps",
        panel=Panel("Attended steps"),
    ),
    Diagnostic(
        name="entropy_bound",
        label="entropy bound (nats)",
        meaning="least entropy in nats of any row of attention whose scores, less "
        "their mean, have the norm that the row's own have; mean over rows: at most "
        "`attention_entropy`",
        source="Zhai et al., arXiv 2303.06296, the lower bound of the entropy, by the "
        "norm of each row; over the steps a row may attend to: ours",
        function=_by_scores,
        needs=_SOFTMAX,
        uniform=lambda T: float(np.log(T)),
        panel=_NATS,
    ),
    Diagnostic(
        name="entropy_bound_by_weights",
        label="entropy bound by weights (nats)",
        meaning="`entropy_bound` with the norm that no row exceeds, ||W^Q W^K^T|| "
        "||X||^2 / sqrt K, and that of what is added to the row's scores",
        source="Zhai et al., arXiv 2303.06296, the lower bound of the entropy; 1 / "
        "sqrt K, the query bias (a row of W^Q, ones in X), masks and what is added to "
        "the scores: ours",
        function=_by_weights,
        needs=_SOFTMAX,
        uniform=lambda T: float(np.log(T)),
    ),
)

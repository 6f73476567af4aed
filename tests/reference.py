r"""A second, deliberately naive implementation of the mathematics: the oracle.

It knows neither jax nor the ``sensitivity`` package: plain NumPy in float64, a loop
per index (heads n, rows i, sources j and m), to be read beside the equations.
The matrices of the paper are the transposes of the Flax kernels; each head's block
:math:`W^O` of the output projection (the identity without ``out``) is folded into its
value side throughout, so :math:`W^V` below means :math:`W^O W^V`, and

.. math::
    q_i = W^Q x_i + b^Q, \quad k_j = W^K x_j + b^K, \quad
    v_j = W^V x_j + W^O b^V, \quad h_i = \textstyle\sum_j \alpha_{ij} v_j.

Arguments, the same everywhere:
    x: Inputs (T, D); :func:`heads` and :func:`attention` take complex ones as well.
    w: A mapping or an object with ``query``, ``key`` (D, H, K), ``value`` (D, H, V)
        and, optional or None, ``out`` (H, V, O), ``query_bias``, ``key_bias`` (H, K),
        ``value_bias`` (H, V), ``out_bias`` (O,). Without ``out`` the layer is its
        heads side by side: O is V for a head and H V for the layer.
    bias: The whole score bias (H, T, T), -inf where attention is forbidden.
    norm: ``"spectral"`` or ``"frobenius"``.
    residual: Whether the identity is added where i = j (of every head, if per head).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

ORDER: dict[str, Any] = {"spectral": 2, "frobenius": "fro"}


class Head(NamedTuple):
    """One head: its matrices as in the paper, and what it computes for one input."""

    W_Q: np.ndarray  # (K, D)
    W_K: np.ndarray  # (K, D)
    W_V: np.ndarray  # (O, D), the output block folded in
    q: np.ndarray  # (T, K)
    k: np.ndarray  # (T, K)
    v: np.ndarray  # (T, O), the output block folded in
    alpha: np.ndarray  # (T, T)
    h: np.ndarray  # (T, O)


def _get(w, name) -> Any:
    """The array ``name`` of the weights in float64, or None."""
    entry = w.get(name) if isinstance(w, Mapping) else getattr(w, name, None)
    return None if entry is None else np.asarray(entry, np.float64)


def _head(x, w, bias, n):
    """Head n, from the definitions."""
    matrix, offset = {}, {}
    for s in ("query", "key", "value"):
        matrix[s], offset[s] = _get(w, s)[:, n, :].T, _get(w, f"{s}_bias")
        width = len(matrix[s])
        offset[s] = np.zeros(width) if offset[s] is None else offset[s][n]
    W_Q, W_K, W_V = matrix.values()
    b_Q, b_K, b_V = offset.values()
    out = _get(w, "out")
    W_O = np.eye(len(W_V)) if out is None else out[n].T  # (O, V)
    T, K = len(x), len(W_Q)
    q = np.array([W_Q @ x[i] + b_Q for i in range(T)])
    k = np.array([W_K @ x[j] + b_K for j in range(T)])
    v = np.array([W_O @ (W_V @ x[j] + b_V) for j in range(T)])
    alpha, h = np.zeros((T, T), q.dtype), np.zeros((T, len(W_O)), q.dtype)
    for i in range(T):
        if np.all(bias[n, i] == -np.inf):
            raise ValueError(f"Row {i} of head {n} has nothing to attend to.")
        score = np.array([q[i] @ k[j] / np.sqrt(K) + bias[n, i, j] for j in range(T)])
        p = np.exp(score - np.max(np.real(score)))
        alpha[i] = p / np.sum(p)
        for j in range(T):
            h[i] += alpha[i, j] * v[j]
    return Head(W_Q, W_K, W_O @ W_V, q, k, v, alpha, h)


def _all_heads(x, w, bias):
    """Every head of the layer."""
    x, bias = np.asarray(x), np.asarray(bias, np.float64)
    x = x if np.iscomplexobj(x) else x.astype(np.float64)
    return [_head(x, w, bias, n) for n in range(len(bias))]


def _join(per_head, w, axis):
    """The layer from its heads: side by side along ``axis`` without ``out``, or sum."""
    if _get(w, "out") is None:
        return np.concatenate(list(per_head), axis=axis)
    return np.sum(per_head, axis=0)


def score_bias(T, H, diagonal=0.0, causal=False, array: Any = None):
    """Score bias (H, T, T): [i = j] diagonal + [causal and j > i] (-inf) + array."""
    bias = np.zeros((H, T, T))
    bias += 0.0 if array is None else np.asarray(array)
    for i in range(T):
        bias[:, i, i] += diagonal
        bias[:, i, i + 1 :] += -np.inf if causal else 0.0
    return bias


def weights(x, w, bias):
    r"""Softmax over j of :math:`q_i \cdot k_j / \sqrt{K} + m_{ij}`, (H, T, T)."""
    return np.array([a.alpha for a in _all_heads(x, w, bias)])


def heads(x, w, bias):
    """Outputs of the heads, output block folded in but no ``out_bias``: (H, T, O)."""
    return np.array([a.h for a in _all_heads(x, w, bias)])


def attention(x, w, bias):
    """Output of the layer, the sum of :func:`heads` plus ``out_bias``: (T, O)."""
    offset = _get(w, "out_bias")
    return _join(heads(x, w, bias), w, -1) + (0.0 if offset is None else offset)


def path_jacobians(x, w, bias, per_head=False):
    r"""Path Jacobians (no residual) as explicit blocks d o_i / d x_j.

    .. math::
        \text{value:}\quad & \alpha_{ij} W^V \\
        \text{key:}\quad & \alpha_{ij} / \sqrt{K}\; (v_j - h_i) (W^{K\top} q_i)^\top \\
        \text{query:}\quad & \delta_{ij} / \sqrt{K}\; C_i W^Q, \quad
          C_i = \textstyle\sum_m \alpha_{im} (v_m - h_i) (k_m - \bar k_i)^\top

    (:math:`h_i` drops out of :math:`C_i`, as the weights sum to 1: a covariance.)

    Returns:
        ``value``, ``key``, ``query`` and their sum ``total``, each ([H,] T, T, O, D).
    """
    layer = _all_heads(x, w, bias)
    H, T, block = len(layer), len(layer[0].h), layer[0].W_V.shape  # (O, D)
    paths = {s: np.zeros((H, T, T, *block)) for s in ("value", "key", "query")}
    for n, a in enumerate(layer):
        root = np.sqrt(len(a.W_Q))
        for i in range(T):
            for j in range(T):
                outer = np.outer(a.v[j] - a.h[i], a.W_K.T @ a.q[i])
                paths["value"][n, i, j] = a.alpha[i, j] * a.W_V
                paths["key"][n, i, j] = a.alpha[i, j] / root * outer
            k_bar = sum(a.alpha[i, m] * a.k[m] for m in range(T))
            C = np.zeros((block[0], len(a.W_Q)))
            for m in range(T):
                C += a.alpha[i, m] * np.outer(a.v[m] - a.h[i], a.k[m] - k_bar)
            paths["query"][n, i, i] = C @ a.W_Q / root
    if not per_head:
        paths = {s: _join(blocks, w, -2) for s, blocks in paths.items()}
    return {**paths, "total": paths["value"] + paths["key"] + paths["query"]}


def finite_difference_jacobian(x, w, bias):
    r"""Jacobian of the layer by the complex step, exact to rounding, from no formula.

    :math:`\partial f / \partial x_{jd} = \Im f(x + i \epsilon e_{jd}) / \epsilon`
    with :math:`\epsilon = 10^{-30}`: nothing is subtracted, so no digit is lost.

    Returns:
        Blocks ``[i, j]``, (T, T, O, D).
    """
    x, step = np.asarray(x, np.complex128), 1e-30
    T, D = x.shape
    jacobian = np.zeros((T, T, attention(x, w, bias).shape[1], D))
    for j in range(T):
        for d in range(D):
            moved = x.copy()
            moved[j, d] += 1j * step
            jacobian[:, j, :, d] = attention(moved, w, bias).imag / step
    return jacobian


def path_norms(x, w, bias, norm="spectral", residual=None, per_head=False):
    r"""Norms of the blocks of :func:`path_jacobians`; total: |J_ij + delta_ij I|.

    By default with the residual I where the blocks are square.

    Returns:
        ``value``, ``key``, ``query`` and ``total``, each ([H,] T, T).

    Raises:
        ValueError: If there is a residual but the blocks are not square.
    """
    paths = path_jacobians(x, w, bias, per_head)
    T, *block = paths["total"].shape[-3:]
    if residual is None:
        residual = block[0] == block[1]
    if residual and block[0] != block[1]:
        raise ValueError(f"A residual needs O = D, got (O, D) = {tuple(block)}.")
    for i in range(T if residual else 0):
        paths["total"][..., i, i, :, :] += np.eye(block[1])
    return {
        path: np.linalg.norm(blocks, ord=ORDER[norm], axis=(-2, -1))
        for path, blocks in paths.items()
    }


def profile(x, w, bias, norm="spectral", residual=False):
    r"""Row statistics of every head: means over j (divided by T), norms, constants.

    With :math:`d_m = |v_m - h_i|`, ``key_constant`` is :math:`\max_m d_m |W^{K\top}
    q_i|` and ``query_constant`` :math:`\max_m d_m |W^{Q\top} k_m|` over the steps m
    that row i may attend to, both without :math:`1/\sqrt{K}`; the rungs
    ``query_weighted``, ``query_centred``, ``query_covariance`` include it.

    Returns:
        The fields of ``sensitivity.Profile``, each (H, T), and one more:
        ``key_weighted``, T times the middle of Eq. 6:
        :math:`\sum_j \alpha_{ij} d_j |W^{K\top} q_i| / \sqrt{K}`.
    """
    norms = path_norms(x, w, bias, norm, residual, per_head=True)
    layer, bias, size = _all_heads(x, w, bias), np.asarray(bias), np.linalg.norm
    H, T = len(layer), len(layer[0].h)
    fields: dict[str, np.ndarray] = {}
    for n, a in enumerate(layer):
        root, W_V = np.sqrt(len(a.W_Q)), size(a.W_V, ord=ORDER[norm])
        wk = np.array([a.W_Q.T @ k for k in a.k])  # W^Q^T k_m
        wk_sizes = np.array([size(u) for u in wk])
        for i in range(T):
            allowed, others = bias[n, i] > -np.inf, np.arange(T) != i
            alpha, q = a.alpha[i], size(a.W_K.T @ a.q[i])
            dv = a.v - a.h[i]
            dk = wk - sum(alpha[m] * wk[m] for m in range(T))
            d, dk_sizes = (np.array([size(u) for u in rows]) for rows in (dv, dk))
            cov_v = sum(alpha[m] * np.outer(dv[m], dv[m]) for m in range(T))
            cov_k = sum(alpha[m] * np.outer(dk[m], dk[m]) for m in range(T))
            top_v, top_k = size(cov_v, ord=2), size(cov_k, ord=2)  # largest eigenvalues
            product = top_v * top_k
            if norm == "frobenius":
                product = min(top_v * np.trace(cov_k), np.trace(cov_v) * top_k)
            row = {
                "value_mean": sum(norms["value"][n, i]) / T,
                "key_mean": sum(norms["key"][n, i]) / T,
                "query_mean": sum(norms["query"][n, i]) / T,
                "off_diagonal_mean": sum(norms["total"][n, i][others]) / T,
                "off_diagonal_weight": sum(alpha[others]),
                "diagonal_weight": alpha[i],
                "diagonal_norm": norms["total"][n, i, i],
                "query_norm": norms["query"][n, i, i],
                "key_off_diagonal_mean": sum(norms["key"][n, i][others]) / T,
                "key_diagonal_norm": norms["key"][n, i, i],
                "key_constant": max(d[allowed]) * q,
                "query_constant": max((d * wk_sizes)[allowed]),
                "key_weighted": sum(alpha * d) * q / root,
                "query_weighted": sum(alpha * d * wk_sizes) / root,
                "query_centred": sum(alpha * d * dk_sizes) / root,
                "query_covariance": np.sqrt(product) / root,
                "value_norm": W_V,
                "own_value_norm": W_V,
                "value_off_diagonal_mean": sum(norms["value"][n, i][others]) / T,
                "rounding_scale": W_V
                + max(d[allowed]) * (q + max(wk_sizes[allowed])) / root,
                "score_scale": size(a.q[i]) * max(map(size, a.k[allowed])) / root,
            }
            for name, number in row.items():
                fields.setdefault(name, np.zeros((H, T)))[n, i] = number
    return fields


def statements(x, w, bias, norm="spectral", residual=False, level="head"):
    r"""Both sides of every statement of math.md sections 4 and 5, row by row.

    For ``level="layer"`` the exact side is the layer's and the bounds of the heads are
    added, with |I| once; |I| and the identity only with ``residual``.

    Returns:
        Name -> (exact, bound, kept rows): arrays (H, T), or (T,) for the layer; without
        the axis T for ``eq8_diagonal_as_printed``, an average over rows. Not kept: rows
        that may attend to no j != i, in statements off the diagonal.
    """
    p = profile(x, w, bias, norm)
    s = path_norms(x, w, bias, norm, residual, per_head=level == "head")
    (T, D), root = np.shape(x), np.sqrt(_get(w, "query").shape[2])
    others = ~np.eye(T, dtype=bool)  # j != i
    value, key, query = (s[path].sum(axis=-1) / T for path in ("value", "key", "query"))
    off = (s["total"] * others).sum(axis=-1)
    diagonal = s["total"].diagonal(axis1=-2, axis2=-1)
    query_norm = s["query"].diagonal(axis1=-2, axis2=-1)
    W_V, alpha, far = p["value_norm"], p["diagonal_weight"], p["off_diagonal_weight"]
    C_K, C_Q = p["key_constant"] / root, p["query_constant"] / root
    printed = W_V[:, 0] + C_K.max(axis=1) + C_Q.max(axis=1)
    per_row = W_V + C_K + C_Q
    steps = max(T - 1, 1)
    lines = {
        "eq5": (value, W_V / T),
        "eq6_middle": (key, p["key_weighted"] / T),
        "eq6": (key, C_K / T),
        "eq7": (query, C_Q / T),
        "eq8_off_diagonal": (off / T, (W_V + C_K) / T),
        "eq8_off_diagonal_conditional": (off / steps, far / steps * (W_V + C_K)),
        "eq8_diagonal_as_printed": (diagonal.mean(-1), alpha.mean(-1) * printed),
        "eq8_diagonal_as_printed_per_row": (diagonal, alpha * per_row),
        "eq8_diagonal_corrected": (diagonal, alpha * (W_V + C_K) + C_Q),
        "eq8_off_diagonal_tight": (
            off / T,
            W_V * far / T + p["key_off_diagonal_mean"],
        ),
        "eq8_diagonal_tight": (
            diagonal,
            alpha * W_V + p["key_diagonal_norm"] + p["query_covariance"],
        ),
        "query_max": (query_norm, C_Q),
        "query_weighted": (query_norm, p["query_weighted"]),
        "query_centred": (query_norm, p["query_centred"]),
        "query_covariance": (query_norm, p["query_covariance"]),
    }
    attended = ((np.asarray(bias) > -np.inf) & others).any(axis=-1)  # (H, T)
    identity = np.linalg.norm(np.eye(D), ord=ORDER[norm]) if residual else 0.0
    result = {}
    for name, (exact, bound) in lines.items():
        kept = attended if "off_diagonal" in name else np.ones(bound.shape, bool)
        if level != "head":
            bound, kept = bound.sum(axis=0), kept.any(axis=0)
        if name.startswith("eq8_diagonal"):
            bound = bound + identity
        result[name] = (exact, bound, kept)
    return result

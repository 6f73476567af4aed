r"""A second, deliberately naive forecaster: plain NumPy, a loop per index.

It knows neither jax nor flax nor the ``models`` package, and is to be read beside the
equations. Evaluation mode only. Letters as everywhere: one sample at a time, so that
inputs of layers are (N, T, D).

Arguments, the same everywhere:
    p: Parameters as nested mappings of arrays, by the names the modules give them; a
        linear layer has ``kernel`` (inputs, outputs) and ``bias``, a norm ``scale`` and
        ``bias``.
    clock: Time of day, shape (T,).
    diagonal: What is added to the diagonal of the scaled scores, one number or T.
"""

import math

import numpy as np

from tests import reference


def linear(x, p):
    """One vector through a linear layer."""
    kernel = np.asarray(p["kernel"])
    y = np.array(p["bias"], float)
    for o in range(len(y)):
        for d in range(len(x)):
            y[o] += x[d] * kernel[d, o]
    return y


def layer_norm(x, p):
    """One vector minus its mean, over the root of its variance + 1e-5."""
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    scaled = [(value - mean) / math.sqrt(variance + 1e-5) for value in x]
    return np.array(scaled) * np.asarray(p["scale"]) + np.asarray(p["bias"])


def softmax(scores):
    """One row of scores to weights that add up to 1."""
    weights = [math.exp(score - max(scores)) for score in scores]
    return np.array(weights) / sum(weights)


def attention(x, p, diagonal=0.0):
    """Steps (T, D) of one node: the oracle of ``sensitivity``."""
    T, H = len(x), np.shape(p["query"])[1]
    bias = np.zeros((T, T))
    np.fill_diagonal(bias, diagonal)
    return reference.attention(x, p, reference.score_bias(T, H, array=bias))


def convolution(x, p, taps):
    r"""Steps (T, D) of one node: relu of :math:`b + \sum_p W_p x_{t-p}`."""
    (T, D), kernel = x.shape, np.asarray(p["mix"]["kernel"])
    y = np.zeros((T, D))
    for t in range(T):
        y[t] = np.asarray(p["mix"]["bias"])
        for lag in range(min(taps, t + 1)):
            for d in range(D):
                y[t] += x[t - lag, d] * kernel[lag * D + d]
    return np.maximum(y, 0)


def adjacencies(p):
    """Forward and backward, each (N, N), from the node embeddings."""
    one, two = np.asarray(p["forward_nodes"]), np.asarray(p["backward_nodes"])
    both = []
    for left, right in ((one, two), (two, one)):
        scores = [[max(a @ b, 0.0) for b in right] for a in left]
        both.append(np.array([softmax(row) for row in scores]))
    return both


def random_walks(weights):
    """Chances of a walk along the edges of a graph and against them, each (N, N)."""
    both = []
    for w in (np.asarray(weights, float), np.asarray(weights, float).T):
        steps = np.zeros_like(w)
        for n, row in enumerate(w):
            if sum(row) > 0:
                steps[n] = row / sum(row)
        both.append(steps)
    return both


def hops(A, x, order):
    """A x, A A x, ... for x (N, T, D), node by node."""
    found = []
    for _ in range(order):
        y = np.zeros_like(x)
        for n in range(len(x)):
            for m in range(len(x)):
                y[n] += A[n, m] * x[m]
        found.append(y)
        x = y
    return found


def graph_convolution(x, p, kind, order, walks=()):
    """Nodes (N, T, D): one linear layer of [x, Af x, Af Af x, Ab x, Ab Ab x]."""
    both = walks if kind == "road" else adjacencies(p)
    if kind == "diagonal":
        both = [np.diag(np.diag(A)) for A in both]
    features = np.concatenate([x, *(y for A in both for y in hops(A, x, order))], -1)
    return np.array([[linear(step, p["mix"]) for step in node] for node in features])


def add_and_norm(x, moved, clock, p):
    """Layer norm of x, what a layer made of it, and the clock's own linear layer."""
    y = np.zeros_like(moved)
    for n in range(len(y)):
        for t in range(len(clock)):
            ticks = linear([clock[t]], p["clock"])
            y[n, t] = layer_norm(x[n, t] + moved[n, t] + ticks, p["norm"])
    return y


def temporal_layer(x, clock, p, *, kind, taps=2, diagonal=0.0, residual=True):
    """Steps of every node, (N, T, D)."""
    mix = p["mix"]
    moved = np.array(
        [
            convolution(node, mix, taps)
            if kind == "convolution"
            else attention(node, mix, diagonal)
            for node in x
        ]
    )
    return add_and_norm(x if residual else np.zeros_like(x), moved, clock, p)


def graph_layer(x, clock, p, *, kind, order, walks=()):
    """Nodes at every step, (N, T, D)."""
    moved = graph_convolution(x, p["mix"], kind, order, walks)
    return add_and_norm(x, moved, clock, p)


def forecaster(config, p, speeds, clock, average=None, walks=(), diagonals=None):
    """Speeds (T, N) of one sample, and averages (T + H, N), to forecasts (H, N)."""
    T, N, D = config.window, config.nodes, config.width
    x = np.zeros((N, T, D))
    for n in range(N):
        for t in range(T):
            channels = [speeds[t, n]] + ([] if average is None else [average[t, n]])
            x[n, t] = linear(channels, p["lift"])
            for d in range(D if config.position != "none" else 0):
                stretch = D / T if config.position == "tape" else 1.0
                angle = t * stretch * 10000 ** (-(d - d % 2) / D)
                x[n, t, d] += math.cos(angle) if d % 2 else math.sin(angle)
    temporal, graph = config.temporal, config.graph
    if diagonals is None:  # of each layer; those of evaluation
        usual = {"mask": -np.inf, "penalty": temporal.penalty}
        diagonals = [usual.get(temporal.regularizer, 0.0)] * config.layers
    layers = [(k, name) for k in range(config.layers) for name in ("temporal", "space")]
    if config.stack == "time-then-space":
        layers.sort(key=lambda layer: layer[1] == "space")
    for k, name in layers:
        if name == "temporal":
            x = temporal_layer(
                x,
                clock,
                p["temporal"][k],
                kind=temporal.kind,
                taps=temporal.taps,
                diagonal=diagonals[k],
                residual=temporal.residual,
            )
        else:
            own = p["spatial"][k]
            x = graph_layer(
                x, clock, own, kind=graph.kind, order=graph.hops, walks=walks
            )
    y = np.zeros((config.horizon, N))
    for n in range(N):
        steps = [linear([*x[n, t], clock[t]], p["read"])[0] for t in range(T)]
        ahead = [] if average is None else list(average[T:, n])
        y[:, n] = linear(steps + ahead, p["ahead"])
    return y

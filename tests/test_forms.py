"""Attention with a sink, with added weights, with a norm of its attended values."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from sensitivity import (
    AttentionWeights,
    ScoreBias,
    attend,
    check_bounds,
    path_jacobians,
    path_norms,
    profile,
)
from sensitivity.attention import attention_matrix
from sensitivity.certificates import certificates
from sensitivity.forms import AttentionForm
from sensitivity.layer_norm import LayerNorm
from sensitivity.query_path import query_path_times
from sensitivity.rotary import Rotary
from tests.helpers import FOLDED, PAPER, PATHS, Shape, make_layer

pytestmark = pytest.mark.usefixtures("strict_promotion")

KINDS = {
    **{name: (name,) for name in ("sink", "gain", "added", "norm_scale")},
    **{name: (name,) for name in ("rotary", "cap", "scale", "input_norm")},
    "normed": ("query_norm", "key_norm"),
    "interleaved": ("rotary",),
    "llama": ("input_norm", "rotary"),
    "rms": ("input_norm",),
}
QUICK = ("sink", "gain", "norm_scale", "llama", "all")  # each is seconds of compiling
FORMS = [
    pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow)
    for kind in (*KINDS, "all")
]


def make_form(kind: str, shape: Shape) -> AttentionForm:
    """A form of one kind, or of all."""
    rng = np.random.default_rng(3)
    turned = 2 if kind == "interleaved" else shape.K // 2 * 2
    centred = kind not in ("llama", "rms")

    def norm(width: int, centred: bool) -> LayerNorm:
        scale, bias = rng.normal(size=(2, width))
        return LayerNorm(scale, bias if centred else None, centred, 1e-3)

    every: dict[str, Any] = {
        "sink": rng.normal(size=shape.H),
        "gain": rng.uniform(0.2, 0.9, shape.H),
        "added": rng.normal(size=(shape.H, shape.T, shape.T)),
        "norm_scale": rng.normal(size=shape.V),
        "rotary": Rotary.of_base(shape.T, turned, 3.0, kind == "interleaved"),
        "cap": 1.5,
        "scale": 0.4,
        "input_norm": norm(shape.D, centred),
        "query_norm": norm(shape.K, False),
        "key_norm": norm(shape.K, True),
    }
    names = every if kind == "all" else KINDS[kind]
    return AttentionForm(**{name: every[name] for name in names})


def formed(kind: str, shape: Shape) -> tuple[np.ndarray, AttentionWeights]:
    """Inputs, and a layer with a form."""
    x, weights = make_layer(2, shape)
    return x, dataclasses.replace(weights, form=make_form(kind, shape))


def by_definition(x: np.ndarray, w: AttentionWeights) -> tuple[np.ndarray, np.ndarray]:
    """Weights (H, T, T) and outputs (T, O), by loops."""
    form, (T, _), H = w.form, x.shape, w.heads
    assert form is not None

    def normed(u: np.ndarray, norm: LayerNorm | None) -> np.ndarray:
        if norm is None:
            return u
        u = u - u.mean() * norm.centred
        u = norm.scale * u / np.sqrt((u**2).mean() + norm.epsilon)
        return u if norm.bias is None else u + norm.bias

    def placed(u: np.ndarray, norm: LayerNorm | None, t: int) -> np.ndarray:
        u, rotary = normed(u, norm).copy(), form.rotary
        for p in range(0 if rotary is None else rotary.dims // 2):
            assert rotary is not None
            pair = (
                [2 * p, 2 * p + 1] if rotary.interleaved else [p, p + rotary.dims // 2]
            )
            angle = t * 3.0 ** (-2 * p / rotary.dims)
            turn = np.exp(1j * angle) * (u[pair[0]] + 1j * u[pair[1]])
            u[pair] = turn.real, turn.imag
        return u

    x = np.array([normed(step, form.input_norm) for step in x])
    alphas, outputs = np.zeros((H, T, T)), np.zeros((T, w.output_width))
    for n in range(H):
        q, k, v = (
            x @ getattr(w, name)[:, n]
            + (
                0
                if getattr(w, f"{name}_bias") is None
                else getattr(w, f"{name}_bias")[n]
            )
            for name in ("query", "key", "value")
        )
        q = np.array([placed(u, form.query_norm, t) for t, u in enumerate(q)])
        k = np.array([placed(u, form.key_norm, t) for t, u in enumerate(k)])
        rate = form.scale or w.key_width**-0.5
        for i in range(T):
            s = rate * (q[i] @ k.T)
            e = np.exp(s if form.cap is None else form.cap * np.tanh(s / form.cap))
            alpha = e / (e.sum() + (0 if form.sink is None else np.exp(form.sink[n])))
            alpha = alpha * (1 if form.gain is None else form.gain[n])
            alpha = alpha + (0 if form.added is None else form.added[n, i])
            h = alpha @ v
            if form.norm_scale is not None:
                h = h / np.sqrt((h**2).mean() + 1e-6) * form.norm_scale
            alphas[n, i] = alpha
            if w.out is None:
                outputs[i, n * len(h) : (n + 1) * len(h)] = h
            else:
                outputs[i] += h @ w.out[n]
    return alphas, outputs + (0 if w.out_bias is None else w.out_bias)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("shape", [PAPER, FOLDED], ids=["paper", "folded"])
def test_the_layer_is_what_its_definition_says(kind, shape):
    x, weights = formed(kind, shape)
    alpha, output = by_definition(x, weights)
    np.testing.assert_allclose(attention_matrix(x, weights), alpha, rtol=1e-12)
    np.testing.assert_allclose(attend(x, x, x, weights), output, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("kind", FORMS)
def test_closed_blocks_agree_with_automatic_differentiation(kind, per_head):
    x, weights = formed(kind, FOLDED)
    bias = ScoreBias(diagonal=-0.3, causal=True)
    paths = path_jacobians(x, weights, score_bias=bias, per_head=per_head)
    for norm, order in (("spectral", 2), ("frobenius", None)):
        options = {"score_bias": bias, "norm": norm, "residual": True}
        closed = path_norms(x, weights, per_head=per_head, **options)
        slow = path_norms(x, weights, per_head=per_head, engine="autodiff", **options)
        for path in PATHS:
            blocks = np.asarray(getattr(paths, path))
            if path == "total":
                blocks = blocks + np.eye(6) * np.eye(len(x))[..., None, None]
            expected = np.linalg.norm(blocks, order, axis=(-2, -1))
            for found in (closed, slow):
                np.testing.assert_allclose(
                    getattr(found, path), expected, rtol=1e-10, atol=1e-13
                )


def test_a_norm_removes_what_is_radial():
    x, weights = make_layer(5, PAPER)
    form = AttentionForm(norm_scale=np.ones(PAPER.V), norm_epsilon=0.0)
    paths = path_jacobians(x, dataclasses.replace(weights, form=form))
    h = np.asarray(attention_matrix(x, weights))[0] @ (x @ weights.value[:, 0])
    for path in PATHS:
        radial = np.einsum("iv,ijvd->ijd", h, np.asarray(getattr(paths, path)))
        np.testing.assert_allclose(radial, 0, atol=1e-14)


def test_a_far_sink_a_gain_of_1_and_no_added_weights_are_plain_attention():
    x, weights = make_layer(5, FOLDED)
    form = AttentionForm(
        sink=np.full(3, -1e3), gain=np.ones(3), added=np.zeros((3, 6, 6))
    )
    same = dataclasses.replace(weights, form=form)
    plain, other = (path_norms(x, layer) for layer in (weights, same))
    for path in PATHS:
        np.testing.assert_allclose(
            getattr(other, path), getattr(plain, path), rtol=1e-9, atol=1e-12
        )
    with_one_more = AttentionForm(sink=np.zeros(3))
    alpha = attention_matrix(x, dataclasses.replace(weights, form=with_one_more))
    assert (np.asarray(alpha).sum(-1) < 1).all()


@pytest.mark.parametrize("kind", FORMS)
def test_the_query_path_times_a_direction_is_that_of_its_jacobian(kind):
    x, weights = formed(kind, FOLDED)
    bias = ScoreBias(diagonal=-0.3, causal=True)
    directions = np.random.default_rng(7).normal(size=x.shape)
    query = np.asarray(path_jacobians(x, weights, score_bias=bias).query)
    expected = np.einsum("iiod,id->io", query, directions)
    with jax.enable_x64(True):
        z, at, layer = jax.tree.map(jax.numpy.asarray, (directions, x, weights))
        found = query_path_times(z, at, layer, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", FORMS)
def test_norms_of_a_form_have_derivatives_in_its_arrays(kind):
    x, weights = formed(kind, FOLDED)

    def size(weights: AttentionWeights) -> Any:
        norms = path_norms(x, weights, norm="frobenius")
        return (norms.total**2).sum()

    with jax.enable_x64(True):
        weights = jax.tree.map(jax.numpy.asarray, weights)
        gradient = jax.grad(size)(weights)
        step = jax.tree.map(lambda a: 1e-6 * np.cos(np.arange(a.size)).reshape(a.shape),
                            weights)  # fmt: skip
        ahead, behind = (
            size(jax.tree.map(lambda a, d, s=sign: a + s * d, weights, step))
            for sign in (1, -1)
        )
        slope = sum(
            (g * d).sum()
            for g, d in zip(
                jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True
            )
        )
    np.testing.assert_allclose(slope, (ahead - behind) / 2, rtol=1e-6)


def test_what_is_not_derived_for_a_form_is_refused_by_its_name():
    x, weights = formed("norm_scale", FOLDED)
    for function in (profile, check_bounds):
        with pytest.raises(ValueError, match="must not have norm_scale for .* prof"):
            function(x, weights)
    x, weights = formed("sink", FOLDED)
    table = certificates(x, weights)
    assert set(table["applies"]) == {"no: attention with sink"}
    jacobian = np.asarray(path_jacobians(x, weights).total).swapaxes(1, 2)
    exact = np.linalg.norm(jacobian.reshape(36, 36), 2)
    np.testing.assert_allclose(table["exact"], exact, rtol=1e-9)
    assert table["bound"].isna().all()


@pytest.mark.parametrize(
    ("form", "rule"),
    [
        ({}, "a form must do something"),
        ({"sink": np.zeros(2)}, r"form.sink must have shape \(3,\), got \(2,\)"),
        ({"norm_scale": np.ones(2)}, r"form.norm_scale must have shape \(3,\)"),
        ({"added": np.ones((3, 5, 6))}, r"form.added must have shape \(3, 6, 6\)"),
        ({"gain": np.ones(3), "norm_epsilon": -1.0}, "must not be negative"),
        ({"cap": 0.0}, "cap must be positive, got 0.0"),
        ({"scale": np.inf}, "scale must be a finite number, got inf"),
        ({"scale": "1"}, "scale must be a finite number, got '1'"),
        ({"rotary": 1.0}, "rotary must be a Rotary, got float"),
        ({"key_norm": 1.0}, "key_norm must be a LayerNorm, got float"),
        ({"key_norm": LayerNorm(np.ones(9))}, r"key_norm.scale must have shape \(\d,"),
        (
            {"input_norm": LayerNorm(bias=np.ones(9))},
            r"input_norm.bias must have shape",
        ),
        (
            {"rotary": Rotary.of_base(6, 8)},
            r"must turn at most K=\d coordinates, got 8",
        ),
    ],
)
def test_forms_that_do_not_fit_are_refused(form, rule):
    _, weights = make_layer(2, FOLDED)
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(weights, form=AttentionForm(**form))


def test_added_weights_of_another_length_and_what_is_no_form_are_refused():
    x, weights = formed("added", FOLDED)
    with pytest.raises(ValueError, match=r"form.added must have shape \(3, 5, 5\)"):
        path_norms(x[:5], weights)
    with pytest.raises(ValueError, match="form must be an AttentionForm, got dict"):
        dataclasses.replace(weights, form={"sink": 0})
    not_finite = AttentionForm(sink=np.full(3, np.nan))
    with pytest.raises(ValueError, match=r"weights.form.sink must be finite"):
        path_norms(x, dataclasses.replace(weights, form=not_finite))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Rotary.of_base(4, 3), "dims must be an even number .* got 3"),
        (lambda: Rotary.of_base(4, 0), "dims must be an even number .* got 0"),
        (lambda: Rotary(np.ones((4, 2)), np.ones((4, 1))), "must have one shape"),
        (lambda: Rotary(np.ones(4), np.ones(4)), "must have one shape"),
        (lambda: LayerNorm(epsilon=-1.0), "epsilon must not be negative, got -1.0"),
        (lambda: LayerNorm(np.ones((2, 2))), r"scale must have shape \(D,\), got"),
    ],
)
def test_what_is_no_rotation_and_no_norm_is_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def test_angles_of_fewer_steps_than_the_input_has_are_refused():
    x, weights = make_layer(2, FOLDED)
    short = AttentionForm(rotary=Rotary.of_base(4, 2))
    with pytest.raises(ValueError, match=r"must have the angles of T=6 steps, got 4"):
        path_norms(x, dataclasses.replace(weights, form=short))


def test_only_differences_of_positions_matter():
    x, weights = make_layer(2, FOLDED)
    angles = np.arange(6)[:, None] * np.array([1.0, 0.1])[: FOLDED.K // 2]
    alphas = [
        attention_matrix(x, dataclasses.replace(weights, form=AttentionForm(rotary=r)))
        for r in (Rotary(np.cos(a), np.sin(a)) for a in (angles, angles + angles[3]))
    ]
    np.testing.assert_allclose(*alphas, rtol=1e-11)

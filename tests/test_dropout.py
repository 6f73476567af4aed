"""Dropout is fair, independent and gone in evaluation; its coins bear statistics.

Bounds on z-scores: a fair generator stays below 5 in a million of them, and below 6 in
more than a hundred million. The draws are the same in every run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.layers import coin, dropout, words

CHANCE = 0.1
SEEDS = jnp.arange(512)
KEYS = {
    "seeds": lambda: jax.vmap(jax.random.key)(SEEDS),
    "split": lambda: jax.random.split(jax.random.key(5), 512),
    "fold_in": lambda: jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(9), SEEDS
    ),
}


def many_words(exponent: int = 20, seed: int = 1) -> np.ndarray:
    """2**exponent words in a row."""
    return np.asarray(words(jax.random.key(seed), (2**exponent,)))


def signs(word: np.ndarray) -> np.ndarray:
    """The 32 bits of words as -1 and 1, shape (32, words)."""
    bits = (word[None] >> np.arange(32, dtype=np.uint32)[:, None]) & 1
    return 2 * bits.astype(np.float32) - 1


def centred(coins: np.ndarray, chance: float = CHANCE) -> np.ndarray:
    """Coins with mean 0 and variance 1."""
    return (coins - np.float32(chance)) / np.float32((chance * (1 - chance)) ** 0.5)


# --- the words of one key -----------------------------------------------------------


def test_words_are_what_the_formula_says():
    key = jax.random.key(3)
    first, second = map(int, jax.random.bits(key, (2,), jnp.uint32))

    def scramble(word: int) -> int:
        word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
        word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
        return word ^ (word >> 16)

    expected = [scramble(scramble((n + first) % 2**32) ^ second) for n in range(6)]
    assert words(key, (2, 3)).ravel().tolist() == expected


def test_no_word_comes_twice():
    assert len(np.unique(many_words())) == 2**20


def test_every_bit_is_set_half_of_the_time():
    word = many_words()
    z = signs(word).sum(1) / len(word) ** 0.5
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("lag", [0, 1, 2, 3, 8, 12, 144])
def test_no_bit_follows_from_a_bit_of_the_same_word_or_of_one_before(lag):
    bits = signs(many_words(18))
    early, late = bits[:, : bits.shape[1] - lag], bits[:, lag:]
    z = early @ late.T / early.shape[1] ** 0.5
    z = z[~np.eye(32, dtype=bool)] if lag == 0 else z.ravel()
    assert np.abs(z).max() < 5
    assert abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5


@pytest.mark.parametrize("bit", range(0, 18, 3))
def test_words_of_counters_that_differ_in_one_bit_differ_in_half_of_theirs(bit):
    word = many_words(18)
    partner = word[np.arange(len(word)) ^ (1 << bit)]
    z = signs(word ^ partner).sum(1) / (len(word) / 2) ** 0.5  # pairs come twice
    assert np.abs(z / 2**0.5).max() < 5


@pytest.mark.parametrize("shift", [0, 8, 24])
def test_bytes_of_neighbouring_words_come_in_all_pairs_alike(shift):
    byte = ((many_words() >> np.uint32(shift)) & 255).astype(int)
    count = np.bincount(256 * byte[::2] + byte[1::2], minlength=65536)
    assert 1e-4 < stats.chisquare(count).pvalue < 1 - 1e-4


# --- coins --------------------------------------------------------------------------


@given(st.floats(0, 1, exclude_max=True))
def test_coins_show_true_as_often_as_they_should(chance):
    n = 2**14
    shown = int(coin(jax.random.key(7), chance, (n,)).sum())
    # Words are a bijection of a counter, so that even chances of 2**-32 are exact.
    assert abs(shown - n * chance) <= 5 * (n * chance * (1 - chance)) ** 0.5 + 1


def test_patterns_of_eight_coins_come_as_often_as_they_should():
    coins = np.asarray(coin(jax.random.key(2), 0.5, (2**16, 8)))
    count = np.bincount(coins @ 2 ** np.arange(8), minlength=256)
    assert 1e-4 < stats.chisquare(count).pvalue < 1 - 1e-4
    coins = np.asarray(coin(jax.random.key(2), CHANCE, (2**16, 8)))
    count = np.bincount(coins.sum(1), minlength=9)[:5]
    expected = 2**16 * stats.binom.pmf(np.arange(9), 8, CHANCE)
    tail = [2**16 - count.sum(), expected[5:].sum()]
    found = stats.chisquare([*count, tail[0]], [*expected[:5], tail[1]])
    assert 1e-4 < found.pvalue < 1 - 1e-4


def test_neighbouring_coins_do_not_follow_each_other():
    x = centred(np.asarray(coin(jax.random.key(4), CHANCE, (2**20,))))
    lags = [*range(1, 160), 256, 432, 864, 1152, 4096, 10368, 65536]
    z = np.array([x[:-lag] @ x[lag:] / (len(x) - lag) ** 0.5 for lag in lags])
    assert np.abs(z).max() < 5
    assert abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5


@pytest.mark.parametrize("keys", KEYS)
def test_coins_of_different_keys_have_nothing_to_do_with_each_other(keys):
    n = 2**12
    draw = jax.jit(jax.vmap(lambda key: coin(key, CHANCE, (n,))))
    x = centred(np.asarray(draw(KEYS[keys]())))  # (512, n)
    by_key, by_place = x.sum(1) / n**0.5, x.sum(0) / len(x) ** 0.5
    pairs = (x @ x.T / n**0.5)[np.triu_indices(len(x), 1)]  # 130,816 of them
    for z in (by_key, by_place, pairs):
        assert np.abs(z).max() < 5.5
        assert abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5
        assert abs(z.mean()) < 5 / len(z) ** 0.5


def test_a_shape_only_arranges_the_coins():
    key = jax.random.key(0)
    flat, box = coin(key, 0.3, (24,)), coin(key, 0.3, (2, 3, 4))
    np.testing.assert_array_equal(flat, box.ravel())
    assert coin(key, 0.3, ()).shape == ()


@pytest.mark.parametrize("chance", [-0.1, 1.0, 2.0, float("nan")])
def test_a_chance_that_is_none_is_refused(chance):
    with pytest.raises(ValueError, match=rf"chance must lie in \[0, 1\), got {chance}"):
        coin(jax.random.key(0), chance, (3,))


def test_a_chance_just_below_one_is_no_overflow():
    assert coin(jax.random.key(0), 1 - 2**-50, (1000,)).all()


# --- dropout ------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_scales_what_stays():
    x = np.random.default_rng(0).normal(1.0, 0.5, 2**18)
    y = np.asarray(dropout(jnp.asarray(x), 0.25, jax.random.key(1)))
    stays = y != 0
    np.testing.assert_allclose(y[stays], x[stays] / 0.75, rtol=1e-12)
    assert abs(stays.mean() - 0.75) < 5 * (0.25 * 0.75 / 2**18) ** 0.5
    assert abs(y.mean() - x.mean()) < 5 * y.std() / 2**9


def test_without_a_key_or_a_rate_nothing_changes():
    x = jnp.arange(5.0)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_the_same_key_drops_the_same_units_and_another_does_not():
    x, (one, two) = jnp.ones(64), jax.random.split(jax.random.key(0))
    first, again, other = (dropout(x, 0.5, key) for key in (one, one, two))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dropout_keeps_the_dtype(dtype):
    y = dropout(jnp.ones(64, dtype), 0.5, jax.random.key(0))
    assert y.dtype == dtype
    assert set(np.asarray(y, float)) == {0.0, 2.0}


def test_gradients_pass_where_units_stay_only():
    x, key = jnp.arange(1.0, 65.0), jax.random.key(0)
    gradient = jax.grad(lambda x: dropout(x, 0.5, key).sum())(x)
    np.testing.assert_array_equal(gradient, 2.0 * (dropout(x, 0.5, key) != 0))

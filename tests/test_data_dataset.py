"""What a series becomes for training: filled, scaled, cut, and free of the future."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from data import gather, load_metr_la, prepare, training_rows
from tests.data_files import real, series

WINDOW, HORIZON = 4, 3
CHOICES = [
    {"split": split, "scale": scale, "fill": fill, "time_of_week": True}
    for split in ("windows", "time")
    for scale in ("global", "sensor")
    for fill in ("mean", "forward", "zero")
]
NAMES = ["-".join(list(choices.values())[:3]) for choices in CHOICES]

jitted = jax.jit(gather, static_argnums=(2, 3))


def city(steps=120, seed=0, **changes):
    """A series of three sensors, a fifth of it missing, NaN-free as loaders make it."""
    rng = np.random.default_rng(seed)
    missing = rng.random((steps, 3)) < 0.2
    values = np.where(missing, 0.0, rng.uniform(5, 70, (steps, 3)))
    time = pd.date_range("2012-03-01", periods=steps, freq="3h")
    parts = {"values": values, "missing": missing, "time": time}
    return series(**(parts | {"sensor_ids": ("a", "b", "c")} | changes))


def ready(source=None, **choices):
    """The series prepared with the sizes of these tests."""
    source = city() if source is None else source
    return prepare(source, window=WINDOW, horizon=HORIZON, **choices)


def cut(made, starts):
    """The windows that start there."""
    return jitted(made.arrays, starts, WINDOW, HORIZON)


# --- what the arrays hold -----------------------------------------------------------


@pytest.mark.parametrize("choices", CHOICES, ids=NAMES)
def test_arrays_are_the_scaled_series_and_its_targets(choices):
    source = city()
    made = ready(source, **choices)
    arrays = made.arrays
    assert {array.dtype for array in jax.tree.leaves(arrays)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(arrays.targets, source.values.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(arrays.targets) == 0, source.missing)
    scores = (source.values - made.scaler.mean) / made.scaler.deviation
    seen = ~source.missing
    expected = scores.astype(np.float32)[seen]
    np.testing.assert_array_equal(np.asarray(arrays.inputs)[seen], expected)
    minutes = source.time.hour * 60
    np.testing.assert_allclose(arrays.time_of_day, minutes / 1440, rtol=1e-7)
    average = made.scaler.transform(made.averages).astype(np.float32)
    np.testing.assert_array_equal(arrays.average, average)
    later = slice(int(made.split.train[-1]) + WINDOW + HORIZON, None)
    plain = made.time_of_week.predict(source.time)[later]
    np.testing.assert_array_equal(made.averages[later], plain)


@pytest.mark.parametrize("scale", ["global", "sensor"])
@pytest.mark.parametrize("fill", ["mean", "forward", "zero"])
def test_a_missing_input_is_filled_from_the_past_or_the_training_part_only(scale, fill):
    missing = city().missing.copy()
    missing[:9, 1] = True  # a gap at the beginning
    made = ready(city(missing=missing, values=city().values * ~missing), scale=scale)
    source, scaler = made.series, made.scaler
    inputs = np.asarray(ready(source, scale=scale, fill=fill).arrays.inputs)
    for sensor in range(3):
        k = sensor if scale == "sensor" else 0
        last = scaler.mean[k]
        for step in range(len(source.time)):
            if not source.missing[step, sensor]:
                last = source.values[step, sensor]
            filling = {"mean": scaler.mean[k], "forward": last, "zero": 0.0}[fill]
            read = filling if source.missing[step, sensor] else last
            score = (read - scaler.mean[k]) / scaler.deviation[k]
            assert inputs[step, sensor] == np.float32(score)


@pytest.mark.parametrize("fill", ["mean", "forward", "zero"])
def test_what_lies_under_a_missing_reading_has_no_say_and_0_mph_is_missing(fill):
    source = city()
    garbage = np.where(source.missing, 1e9, source.values)
    none_missing = np.zeros_like(source.missing)
    for changes in ({"values": garbage}, {"missing": none_missing}):
        one = ready(source, fill=fill)
        other = ready(dataclasses.replace(source, **changes), fill=fill)
        same(one, other)
        same(one.arrays, other.arrays)
        np.testing.assert_array_equal(other.series.missing, source.missing)


def test_without_the_option_there_is_no_average_among_the_inputs():
    made = ready()
    assert made.arrays.average is None
    assert cut(made, made.split.train).average is None


# --- nothing leaks ------------------------------------------------------------------


def same(one, other):
    """Everything fitted, or every leaf of a pytree, agrees to the last bit."""
    if hasattr(one, "scaler"):
        one, other = ((x.split, x.scaler, x.time_of_week) for x in (one, other))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("choices", CHOICES, ids=NAMES)
def test_changing_what_training_never_touches_changes_nothing_in_training(choices):
    source = city()
    made = ready(source, **choices)
    rows = training_rows(made.split, WINDOW, HORIZON)
    later = np.arange(len(source.time)) >= rows.stop
    assert later.any()
    swapped = city(seed=1)
    other = dataclasses.replace(
        source,
        values=np.where(later[:, None], swapped.values, source.values),
        missing=np.where(later[:, None], swapped.missing, source.missing),
    )
    changed = ready(other, **choices)
    same(made, changed)
    same(*(cut(one, one.split.train) for one in (made, changed)))
    before, after = (cut(one, one.split.test) for one in (made, changed))
    assert not np.array_equal(before.speeds, after.speeds)


@pytest.mark.parametrize("split", ["windows", "time"])
def test_everything_training_touches_is_fitted(split):
    source = city()
    made = ready(source, split=split)
    rows = training_rows(made.split, WINDOW, HORIZON)
    seen = source.values[rows][~source.missing[rows]]
    assert made.scaler.mean == pytest.approx(seen.mean(), rel=1e-14)
    assert made.scaler.deviation == pytest.approx(seen.std(), rel=1e-14)


# --- windows ------------------------------------------------------------------------


def check_batch(batch, arrays, starts):
    """The batch against plain slices of the arrays."""
    arrays = jax.tree.map(np.asarray, arrays)
    for b, s in enumerate(np.asarray(starts).tolist()):
        middle, end = s + WINDOW, s + WINDOW + HORIZON
        one = jax.tree.map(lambda leaf, b=b: np.asarray(leaf[b]), batch)
        np.testing.assert_array_equal(one.speeds, arrays.inputs[s:middle])
        np.testing.assert_array_equal(one.time_of_day, arrays.time_of_day[s:middle])
        np.testing.assert_array_equal(one.average, arrays.average[s:end])
        np.testing.assert_array_equal(one.targets, arrays.targets[middle:end])


def test_a_batch_is_plain_slices_and_a_start_beyond_the_last_window_is_moved_to_it():
    made = ready(time_of_week=True)
    last = len(made.series.time) - WINDOW - HORIZON
    starts = np.array([17, 0, last, 17, last + 5, -2], np.int32)
    expected = np.clip(starts, 0, last)
    check_batch(gather(made.arrays, starts, WINDOW, HORIZON), made.arrays, expected)
    check_batch(cut(made, starts), made.arrays, expected)


def test_batches_can_be_scanned_over_and_drawn_for_several_seeds_at_once():
    made = ready(time_of_week=True)
    starts = jnp.asarray(made.split.train[:12].reshape(2, 3, 2))  # seeds, batches, B

    @jax.jit
    @jax.vmap
    def epoch(starts):
        def step(carry, some):
            return carry, gather(made.arrays, some, WINDOW, HORIZON)

        return jax.lax.scan(step, None, starts)[1]

    batches = epoch(starts)
    for seed in range(2):
        for k in range(3):
            one = jax.tree.map(lambda leaf, place=(seed, k): leaf[place], batches)
            check_batch(one, made.arrays, starts[seed, k])


def test_windows_are_cut_by_one_gather_per_array_and_the_series_is_never_copied():
    made = ready(time_of_week=True)
    starts = jnp.asarray(made.split.train[:8])
    traced = jax.make_jaxpr(lambda a, s: gather(a, s, WINDOW, HORIZON))
    steps = traced(made.arrays, starts).jaxpr.eqns
    assert sum(step.primitive.name == "gather" for step in steps) == 4
    sizes = [np.prod(out.aval.shape) for step in steps for out in step.outvars]
    assert max(sizes) == 8 * (WINDOW + HORIZON) * 3  # the average: the largest part


# --- errors -------------------------------------------------------------------------


def test_sizes_and_options_that_cannot_be_are_refused():
    arrays = ready().arrays
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        gather(arrays, jnp.arange(2), 0, 3)
    with pytest.raises(ValueError, match=r"\(121\) must not exceed the 120 steps"):
        gather(arrays, jnp.arange(2), 120, 1)
    with pytest.raises(ValueError, match="need a series of 12 steps .* got 11 steps"):
        ready(city(steps=11))
    for name in ("scale", "fill", "split"):
        with pytest.raises(ValueError, match="must be one of .*, got 'other'"):
            ready(**{name: "other"})


def test_a_sensor_silent_or_constant_in_training_is_named():
    source = city()
    for reading, rule in ((0.0, "missing at all"), (30.0, r"always reads 30\.0")):
        values = source.values.copy()
        values[:100, 1] = reading  # but not in the test part
        one = city(values=values, missing=values == 0)
        with pytest.raises(ValueError, match=f"training part of 'tiny'.*'b'.*{rule}"):
            ready(one, scale="sensor")
    flat = city(values=np.full((120, 3), 30.0), missing=np.zeros((120, 3), bool))
    with pytest.raises(ValueError, match="every sensor always reads 30"):
        ready(flat)


def test_a_speed_beyond_float32_is_refused_with_its_place():
    source = city()
    values = source.values.copy()
    values[110, 2] = 1e39
    one = city(values=values, missing=values == 0)
    with pytest.raises(ValueError, match=r"got 1e\+39 mph at step 110 of sensor 'c'"):
        ready(one)


# --- the real series ----------------------------------------------------------------


def test_simple_forecasts_of_metr_la_reach_the_errors_measured_before():
    source = load_metr_la(real("metr-la-29"))
    made = prepare(source, window=12, horizon=12, fill="forward", time_of_week=True)
    batch = jitted(made.arrays, made.split.test, 12, 12)
    assert batch.average is not None
    last = made.scaler.inverse(batch.speeds[:, -1])
    average = made.scaler.inverse(batch.average[:, 12:])
    observed = np.asarray(batch.targets) != 0

    def errors(forecast):
        miss = np.where(observed, np.abs(np.asarray(forecast - batch.targets)), 0)
        mean = miss.sum(axis=(0, 2)) / observed.sum(axis=(0, 2))
        return mean[[2, 5, 11]].round(2).tolist()

    assert errors(last[:, None]) == pytest.approx([3.63, 4.40, 5.65])
    assert errors(average) == pytest.approx([4.29, 4.29, 4.29])

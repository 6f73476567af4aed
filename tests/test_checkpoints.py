"""Checkpoints come back to the last bit, or are refused by one error and no noise."""

import errno
import resource
import shutil
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import models.checkpoints
from models.checkpoints import Checkpoint, CheckpointFolder, KeptWeights
from models.early_stopping import TrainState
from tests.train_runs import shortened

HISTORY = [{"epoch": 1, "seed": 0, "loss": 0.1 + 0.2, "validation_mae": float("nan")}]


def state_of(seed: int, width: int = 3, layers: int = 20) -> TrainState:
    """Arrays of all dtypes and depths that training has, in many layers."""
    rng = np.random.default_rng(seed)

    def draw() -> Any:
        kernels = [
            jnp.asarray(rng.normal(size=(2, width)), jnp.float32) for _ in range(layers)
        ]
        return {"layers": kernels, "one": jnp.float32(rng.normal())}

    return TrainState(
        params=draw(),
        optimizer=((), [draw(), jnp.int32(seed)]),
        best=draw(),
        best_mae=jnp.asarray([np.inf, 3.5], jnp.float32),
        since_best=jnp.asarray([0, 2], jnp.int32),
        stopped=jnp.asarray([False, True]),
        epoch=jnp.asarray([1, 1], jnp.int32),
        key=jnp.asarray(rng.integers(2**32, size=(2, 2)), jnp.uint32),
    )


STATE = state_of(0)


def assert_same(found: Any, expected: Any) -> None:
    """The same tree, arrays of the same dtypes and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(file.name for file in folder.iterdir())


def test_the_last_checkpoint_comes_back_to_the_last_bit(tmp_path):
    folder = CheckpointFolder(tmp_path / "a %20#b" / "checkpoints")
    assert folder.load(STATE) is None
    for epoch in (1, 2, 10, 10):
        folder.save(epoch, Checkpoint(state_of(epoch), HISTORY))
    assert names(folder.path) == ["10"]
    for reader in (folder, CheckpointFolder(folder.path, read_only=True)):
        assert reader.latest() == 10
        found = reader.load(STATE)
        assert found is not None
        assert_same(found.state, state_of(10))
        assert repr(found.history) == repr(HISTORY)


def test_kept_weights_all_stay(tmp_path):
    kept = KeptWeights(tmp_path / "kept")
    for epoch in (0, 3, 12, 3):
        kept.save(epoch, state_of(epoch + kept.epochs().count(3)).params)
    assert kept.epochs() == [0, 3, 12]
    for epoch, seed in ((0, 0), (3, 4), (12, 12 + 1)):
        assert_same(kept.load(epoch, STATE.params), state_of(seed).params)


@pytest.mark.parametrize("torn", ["4.part", "4.orbax-checkpoint-tmp"])
def test_what_a_kill_has_left_is_no_checkpoint_and_goes(tmp_path, torn):
    CheckpointFolder(tmp_path).save(3, Checkpoint(STATE, HISTORY))
    shutil.copytree(tmp_path / "3", tmp_path / torn)
    assert CheckpointFolder(tmp_path, read_only=True).latest() == 3
    assert names(tmp_path) == ["3", torn]
    assert CheckpointFolder(tmp_path).latest() == 3
    assert names(tmp_path) == ["3"]


def test_a_folder_that_is_only_read_is_not_made(tmp_path):
    assert CheckpointFolder(tmp_path / "no", read_only=True).latest() is None
    assert names(tmp_path) == []


def test_checkpoints_of_version_0_1_0_are_read(tmp_path):
    """They were written by Orbax."""
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path / "checkpoints", options=options) as manager:
        state = ocp.args.StandardSave(STATE._asdict())
        history = ocp.args.JsonSave({"rows": HISTORY})
        manager.save(7, args=ocp.args.Composite(state=state, history=history))
    with ocp.CheckpointManager(tmp_path / "kept", options=options) as manager:
        params = ocp.args.StandardSave(STATE.params)
        manager.save(0, args=ocp.args.Composite(params=params))
    found = CheckpointFolder(tmp_path / "checkpoints").load(state_of(1))
    assert found is not None
    assert_same(found.state, STATE)
    assert repr(found.history) == repr(HISTORY)
    weights = KeptWeights(tmp_path / "kept").load(0, state_of(1).params)
    assert_same(weights, STATE.params)


# --- what goes wrong ----------------------------------------------------------------


@pytest.fixture
def silent(capfd):
    """Nothing is printed, by no thread, and the hook of threads is left alone."""
    hook = threading.excepthook
    yield
    assert threading.excepthook is hook
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("size", [0, 100, 2000, 20_000])
def test_a_full_disk_is_one_error_and_what_was_there_stays(
    tmp_path, silent, size, earlier
):
    folder, large = CheckpointFolder(tmp_path), state_of(1, width=3000)
    if earlier:
        folder.save(1, Checkpoint(STATE, HISTORY))
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            folder.save(2, Checkpoint(large, HISTORY))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path))
    assert names(tmp_path) == ["1"] * earlier
    if earlier:
        found = folder.load(STATE)
        assert found is not None
        assert_same(found.state, STATE)


def flipped(checkpoint: Path) -> None:
    """A byte of the index is another."""
    for file in (checkpoint / "state").rglob("manifest.ocdbt"):
        held = bytearray(file.read_bytes())
        held[len(held) // 2] ^= 255
        file.write_bytes(held)


def no_json(checkpoint: Path) -> None:
    """The rows are no JSON."""
    (checkpoint / "history" / "metadata").write_text("{")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / "state"), "only the model has best.l"),
        (lambda folder: shutil.rmtree(folder / "history"), "No such file"),
        (shortened, "Requested byte range"),
        (flipped, "checksum"),
        (no_json, "Expecting property name"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_stays(tmp_path, silent, damage, reason):
    folder = CheckpointFolder(tmp_path)
    folder.save(4, Checkpoint(STATE, HISTORY))
    damage(tmp_path / "4")
    before = sorted(tmp_path.rglob("*"))
    message = (
        rf"checkpoint {tmp_path / '4'} is damaged or of another model \(.*{reason}"
    )
    with pytest.raises(ValueError, match=message):
        folder.load(STATE)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("like", "reason"),
    [
        (state_of(0, width=4), r"float32\[2, 3\], the model's float32\[2, 4\]"),
        (state_of(0, layers=19), r"only it has best\.layers\.19"),
        (state_of(0, layers=21), r"only the model has best\.layers\.20"),
        (STATE._replace(epoch=jnp.ones(2)), r"epoch is int32\[2\], .* float64\[2\]"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, silent, like, reason):
    folder = CheckpointFolder(tmp_path)
    folder.save(4, Checkpoint(STATE, HISTORY))
    with pytest.raises(
        ValueError, match=rf"is damaged or of another model \(.*{reason}"
    ):
        folder.load(like)


def test_a_bit_that_is_another_is_seen(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(4, Checkpoint(STATE, HISTORY))
    (tmp_path / "4" / "state.sha256").write_text("of other arrays")
    with pytest.raises(ValueError, match="not those that were written"):
        folder.load(STATE)


def test_what_a_user_keeps_beside_checkpoints_stays(tmp_path):
    for name in ("5.mine", "2024-notes", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file")
    folder = CheckpointFolder(tmp_path)
    folder.save(4, Checkpoint(STATE, HISTORY))
    assert folder.latest() == 4
    assert names(tmp_path) == ["2024-notes", "4", "5.mine", "7", "notes"]


def test_a_reader_goes_on_while_a_training_replaces_the_checkpoint(
    tmp_path, monkeypatch
):
    writer, replaced = CheckpointFolder(tmp_path), []
    writer.save(1, Checkpoint(STATE, HISTORY))
    whole = models.checkpoints._read_arrays

    def slow(folder, like):
        if not replaced:
            replaced.append(True)
            writer.save(2, Checkpoint(state_of(2), HISTORY))
        return whole(folder, like)

    monkeypatch.setattr(models.checkpoints, "_read_arrays", slow)
    found = CheckpointFolder(tmp_path, read_only=True).load(STATE)
    assert found is not None
    assert_same(found.state, state_of(2))


def test_a_checkpoint_elsewhere_is_replaced_and_not_deleted(tmp_path):
    CheckpointFolder(tmp_path / "scratch").save(1, Checkpoint(STATE, HISTORY))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "1").symlink_to(tmp_path / "scratch" / "1")
    CheckpointFolder(tmp_path / "run").save(2, Checkpoint(STATE, HISTORY))
    assert names(tmp_path / "run") == ["2"]
    assert names(tmp_path / "scratch") == ["1"]

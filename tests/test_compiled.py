"""What commands compile is kept for their next start, unless they are told not to."""

import dataclasses
import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from models.runs import compiled
from models.runs.command import run_command
from models.runs.compiled import compiled_programs, programs_folder
from tests.commands import COMMANDS

FOLDER = "jax_compilation_cache_dir"
MEASURES_IT = {"analysis.benchmark", "analysis.benchmark.training"}
COMPILES_NOTHING = {"analysis.tables"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A command.

    Attributes:
        factor: What is compiled into its program.
    """

    factor: float = 2.0


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder of its own, of which JAX was not told; all is worth a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "_LEAST_SECONDS", 0.0)
    told = getattr(jax.config, FOLDER)
    jax.config.update(FOLDER, None)
    yield tmp_path
    jax.config.update(FOLDER, told)
    compilation_cache.reset_cache()


def compile_it(factor: float) -> None:
    """Compile a new program, which is not in memory."""
    jax.jit(lambda x: jnp.sin(x) * factor)(jnp.ones(3)).block_until_ready()


def command(*words: str) -> int:
    def run(options: Options) -> int:
        compile_it(options.factor)
        return 0

    return run_command(Options, run, words, prog="python -m command")


def kept(folder: Path) -> list[str]:
    """The programs in a folder, without the digests of their names."""
    return sorted(f.name.partition("-")[0] for f in folder.rglob("*-cache"))


def settings():
    names = ("compilation_cache_dir", "compilation_cache_max_size")
    names += ("enable_compilation_cache", "persistent_cache_min_compile_time_secs")
    return {name: getattr(jax.config, f"jax_{name}") for name in names}


def test_a_program_is_found_at_the_next_start(home, capsys):
    before, found = settings(), []

    def listen(event: str, **_: object) -> None:
        found.append(event)

    assert command("--factor", "3") == 0
    assert "jit__lambda" in kept(home)
    jax.monitoring.register_event_listener(listen)
    try:
        assert command("--factor", "3") == 0
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert "/jax/compilation_cache/cache_hits" in found
    assert settings() == before
    assert capsys.readouterr().err == ""


def test_nothing_is_kept_where_it_is_not_wanted(home):
    assert command("--no-compile-cache") == 0
    assert kept(home) == []


def test_nothing_is_kept_after_the_command(home):
    command("--factor", "4")
    before = kept(home)
    compile_it(5.0)
    assert kept(home) == before


def test_a_folder_that_jax_was_told_stays(home, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine")
    jax.config.update(FOLDER, str(mine))
    with compiled_programs(kept=True):
        assert getattr(jax.config, FOLDER) == str(mine)
    assert kept(home) == []


def test_a_folder_that_cannot_be_written_is_one_line_and_the_command_goes_on(
    home, capsys
):
    (home / "stgnn-sensitivity").write_text("a file")
    assert command() == 0
    said = capsys.readouterr().err
    assert said.startswith("note: compiled programs are not kept: ")
    assert said.count("\n") == 1


def test_a_user_without_a_home_has_no_folder(monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(sys, "platform", "linux")
    assert command() == 0
    assert "could not tell" in capsys.readouterr().err


def no_home():
    raise RuntimeError("could not tell")


def test_every_kind_of_processor_has_its_own_folder(monkeypatch):
    here = programs_folder()
    monkeypatch.setattr(compiled, "processor", lambda name: "another")
    assert programs_folder() != here


@pytest.mark.parametrize(
    "module", [each.module for each in COMMANDS], ids=lambda name: name
)
def test_every_command_that_compiles_can_go_without(module, capsys):
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(module).main(["--help"])
    said = "--no-compile-cache" in capsys.readouterr().out
    assert said == (module not in MEASURES_IT | COMPILES_NOTHING)

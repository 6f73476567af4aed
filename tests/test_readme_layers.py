"""Every line of the README on reading one's own layer runs, and prints what it says."""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sensitivity.layers_file import load_layers

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TITLE = "## Read your own attention layer\n"


def python_blocks(title: str) -> list[str]:
    """The Python blocks of a section of the README."""
    section = TEXT.split(title)[1].split("\n## ")[0]
    assert section.count("```") == 2 * section.count("```python\n")  # of no other kind
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def promised(block: str) -> list[str]:
    """What a block says it prints: its comments that have a line of their own."""
    return [line[2:] for line in block.splitlines() if line.startswith("# ")]


def printed(block: str, names: dict[str, Any]) -> list[str]:
    """What a block prints when it runs after those that left these names."""
    caught = io.StringIO()
    with contextlib.redirect_stdout(caught):
        exec(compile(block, "README.md", "exec"), names)
    return caught.getvalue().splitlines()


def needs_torch(block: str) -> bool:
    """Whether a block is for where PyTorch is installed."""
    return "import torch" in block


def test_the_section_has_a_block_for_every_way_in():
    blocks = python_blocks(TITLE)
    assert [needs_torch(block) for block in blocks] == [False, False, True]
    ways = ("AttentionWeights(query", "capture_attention(model)", "capture_torch_att")
    for block, way in zip(blocks, ways, strict=True):
        assert way in block
        said = "\n".join(promised(block))
        assert re.search(r"corrected: 72 of 72 rows\nmean norm on the diagonal", said)


@pytest.mark.slow
@pytest.mark.parametrize("with_torch", [True, False])
def test_every_line_runs_and_prints_what_it_says(with_torch, tmp_path, monkeypatch):
    if with_torch:
        pytest.importorskip("torch", reason="PyTorch is not installed")
        pytest.importorskip("transformers", reason="transformers is not installed")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an error
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in python_blocks(TITLE):
        if with_torch or not needs_torch(block):
            assert printed(block, names) == promised(block)
    assert not with_torch or len(load_layers(tmp_path / "layers.npz")) == 1


def test_the_ten_lines_of_python_run():
    (block,) = python_blocks("## In Python\n")
    said = printed(block, {})
    assert any(line.split()[1:2] == ["eq8_diagonal_corrected"] for line in said)

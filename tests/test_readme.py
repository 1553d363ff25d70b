"""The README's code block works as pasted."""

import re
from pathlib import Path

import pytest

from zfnet_lib import load_network
from zfnet_lib.checkpoints import CheckpointError

README = Path(__file__).parents[1] / "README.md"


def test_the_code_block_runs_as_pasted(capsys):
    try:
        load_network("alexnet-imagenet")
    except CheckpointError as error:
        pytest.skip(str(error))
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(block.strip().splitlines()) == 10
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("torch.Size([1, 3, 224, 224])")

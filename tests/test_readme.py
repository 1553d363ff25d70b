"""The code blocks of the README and of the page about one's own networks work as pasted."""

import re
import shlex

import pytest
from PIL import Image

from zfnet_lib.__main__ import main, zfnet
from zfnet_lib.datasets import open_dataset
from zfnet_lib.files import PROJECT
from zfnet_lib.weights import CheckpointError, load_network

BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)


def test_the_code_block_of_the_readme_runs_as_pasted(capsys):
    try:
        load_network("alexnet-imagenet")
    except CheckpointError as error:
        pytest.skip(str(error))
    (block,) = (block for kind, block in BLOCK.findall((PROJECT / "README.md").read_text()) if kind == "python")
    assert len(block.strip().splitlines()) == 10
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("torch.Size([1, 3, 224, 224])")


@pytest.mark.parametrize("page", ["README.md", *(f"book/{path.name}" for path in (PROJECT / "book").glob("*.md"))])
def test_commands_take_these_words_and_links_lead_somewhere(page):
    page = PROJECT / page
    text = page.read_text()
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL):
        for line in re.split(r"\n| && ", block.replace("\\\n", "")):
            if found := re.match(r"(?:torchrun .*-m zfnet_lib|zfnet) (\S+)(.*)", line):
                with zfnet.commands[found[1]].make_context(found[1], shlex.split(found[2], comments=True)):
                    pass
    links = re.findall(r"\]\(([^)#:]+)\)|^```{(?:image|figure)} (\S+)$", text, re.MULTILINE)
    assert [path for path in map("".join, links) if not (page.parent / path).exists()] == []


@pytest.mark.usefixtures("data", "results")
def test_every_code_block_about_ones_own_network_runs_as_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # with the picture and the two classes of pictures that the page starts from
    shapes = open_dataset("shapes", "train", size=72, n=640)
    for label, name in ((0, "cups"), (1, "keys")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in (shapes.labels == label).nonzero()[0].tolist():
            picture = Image.fromarray(shapes[i].picture.permute(1, 2, 0).numpy())
            picture.save(tmp_path / "pictures" / name / f"{i}.png")
    picture.save(tmp_path / "picture.jpg")
    blocks, names = BLOCK.findall((PROJECT / "book/own.md").read_text()), {}
    assert {kind for kind, _ in blocks} == {"python", "sh"}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "own.md", "exec"), names)
        for line in block.replace("\\\n", "").splitlines() if kind == "sh" else ():
            command, *arguments = shlex.split(line)
            assert (command, main(arguments)) == ("zfnet", 0), capsys.readouterr().err
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"projection.png", "picture-conv3-map5.png", "atlas/manifest.json", "weights/mine/meta.json"} <= written
    assert {"residual/manifest.json", "squeeze/index.html"} <= written
    assert list(tmp_path.glob("picture-features.4-*")) and list(tmp_path.glob("picture-occluded-*"))
    assert "('conv1', 'conv2', 'conv3', 'conv4', 'conv5')" in capsys.readouterr().out

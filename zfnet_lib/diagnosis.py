"""What is installed and at hand, and the command that brings what is missing (`zfnet doctor`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from .checkpoints import CheckpointError, read_meta, weights_folders
from .datasets import DATASETS, dataset_folder
from .experiments import PROFILES, training_of
from .paths import data_root
from .records import device_name
from .shipping import SHIPPED
from .specs import MINI
from .weights import FETCHERS

PACKAGES = ("torch", "torchvision", "scikit-learn", "scikit-image", "jupyter-book", "papermill", "ipywidgets")


def diagnose() -> Iterator[str]:
    """Yield one line for each thing found or missing; a missing one names the command that brings it."""
    for package in ("zfnet-lib", *PACKAGES):
        yield f"package   {package:18}{_version(package)}"
    yield f"device    {device_name('cuda' if torch.cuda.is_available() else 'cpu')}"
    yield f"data in   {data_root()}"
    for name in DATASETS:
        yield f"data set  {name:18}{_data(name) or 'here'}"
    for name in (*FETCHERS, *SHIPPED):
        yield f"weights   {name:18}{_weights(name) or 'here'}"
    for profile in PROFILES.values():
        lacks = [text for text in (_data(profile.pictures), _weights(profile.network)) if text]
        yield f"profile   {profile.name:18}{'lacks: ' + '; '.join(lacks) if lacks else 'ready'}"
    yield f"npm       {shutil.which('npm') or 'not here: the book uses public copies of MathJax and the widgets'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing: pip install -e ."


def _data(name: str) -> str:
    """Return what brings a data set, or nothing where it is here or is made in code."""
    made_in_code = DATASETS[name].reader is None
    return "" if made_in_code or dataset_folder(name).is_dir() else f"missing: zfnet fetch {name}"


def _weights(name: str) -> str:
    """Return what brings the weights, or nothing where they are here or need no file."""
    if name == MINI.name:
        return ""
    for folder in weights_folders():
        try:
            read_meta(folder / name)
            return ""
        except CheckpointError:
            continue
    return f"missing: {_command(name)}"


def _command(name: str) -> str:
    """Return what brings weights that are not here."""
    paper = training_of("paper", "zfnet")
    commands = {paper.name: paper.command} | {shipped: f"zfnet ship {shipped}" for shipped in SHIPPED}
    return commands.get(name, f"zfnet fetch {name}")

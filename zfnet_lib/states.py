"""The state of a training on disk: written whole, checked by hash, the one before kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .files import ZfnetError, check, sha256, storing, sweep

TENSORS, VALUES = "state.safetensors", "state.json"
KEPT = 2


class StateError(ZfnetError, ValueError):
    """A training state that is missing, damaged, or of another training."""


@dataclass(frozen=True)
class Restored:
    """A state read back.

    Attributes:
        tensors: By name.
        values: What JSON holds.
        damaged: Newer states that could not be read, one sentence each.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    damaged: tuple[str, ...] = ()


def save_state(folder: Path, update: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> Path:
    """Write the state after an update to `folder/update-…`, and remove all but the last two states.

    The folder of a state appears under its name when it is complete, so a stop at any moment leaves whole ones.

    Raises:
        ZfnetError: The folder cannot be written or the disk is full.
    """
    target = folder / f"update-{update:09d}"
    with storing(target) as temporary:
        temporary.mkdir()
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary / TENSORS)
        (temporary / VALUES).write_text(json.dumps(values) + "\n")
    for old in saved_states(folder)[KEPT:]:
        shutil.rmtree(old)
    return target


def saved_states(folder: Path) -> list[Path]:
    """Return the states in a folder, newest first."""
    return sorted(folder.glob("update-*"), reverse=True)


def newest_state(folder: Path) -> Restored | None:
    """Read the newest state that is whole; None where there is none at all.

    Raises:
        StateError: There are states, and all are damaged.
    """
    sweep(folder)
    damaged: list[str] = []
    for path in saved_states(folder):
        try:
            return Restored(*_read(path), tuple(damaged))
        except StateError as error:
            damaged.append(str(error))
    if damaged:
        raise StateError(f"{damaged[0]}, and there is no earlier one; remove {folder} and train anew")
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        check(path)
        values = json.loads((path / VALUES).read_text())
        before = values.pop("sha256", None)  # earlier versions kept the hash of the tensors here
        if before and sha256(path / TENSORS) != before:
            raise ValueError("its SHA-256 differs")
        return load_file(path / TENSORS), values
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise StateError(f"the checkpoint {path} is damaged ({error})") from error

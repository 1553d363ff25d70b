"""Result records: every number with where it comes from, one JSON line each."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..files import PROJECT, DamagedError, ZfnetError, alone, check, storing


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from.

    Attributes:
        commit: Of the code; empty outside a git checkout.
        dirty: Whether the code differed from that commit.
        versions: Of Python and torch.
        device: The processor or GPU that computed it.
        seed: Of everything random in it.
        seconds: Wall time.
    """

    commit: str
    dirty: bool
    versions: dict[str, str]
    device: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        experiment: What measured it, for example `bench-norm`.
        quantity: What was measured.
        value: The number.
        unit: `%`, `images/s`, `ratio` ….
        n: How many runs, folds or pictures it rests on.
        spread: Standard deviation over them, where n > 1.
        paper: The paper's value, where it has one.
        parameters: The settings of the experiment.
        spec: Name of the architecture or weights.
        data: The data set and its fingerprint.
        provenance: Where it comes from.
    """

    experiment: str
    quantity: str
    value: float
    unit: str
    provenance: Provenance
    n: int = 1
    spread: float | None = None
    paper: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    spec: str = ""
    data: str = ""


class Stopwatch:
    """Wall time since its making, to fill in `Provenance.seconds`."""

    def __init__(self) -> None:
        self.start = perf_counter()

    def provenance(self, seed: int = 0, device: torch.device | str = "cpu") -> Provenance:
        """Return the provenance of what was computed since the start."""
        commit, dirty = _git_state()
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        seconds = round(perf_counter() - self.start, 3)
        return Provenance(commit, dirty, versions, device_name(device), seed, seconds)


def device_name(device: torch.device | str = "cpu") -> str:
    """Return the processor's or GPU's name, with the number of threads used."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {'GPU' if kind == 'mps' else f'{torch.get_num_threads()} threads'}"


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _git_state() -> tuple[str, bool]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "zfnet_lib"))
    except (OSError, subprocess.CalledProcessError):
        return "", False


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a JSON-lines file; a reader sees all of them or none.

    Raises:
        ZfnetError: The file is damaged or cannot be written.
    """
    with alone(path):
        write_lines(path, [*read_lines(path), *map(_line, records)])


def store(path: Path, records: Iterable[Record]) -> None:
    """Write a JSON-lines file anew; what it held before is replaced when all of it is written."""
    write_lines(path, map(_line, records))


def _line(record: Record) -> str:
    return json.dumps(asdict(record), sort_keys=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Store lines of text."""
    with storing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))


def read_lines(path: Path) -> list[str]:
    """Return stored lines of text; an absent file has none.

    Raises:
        ZfnetError: The file is not as it was stored.
    """
    try:
        check(path)
        return path.read_text().splitlines() if path.exists() else []
    except (DamagedError, UnicodeDecodeError) as error:
        ours = f"remove {path.name}.sha256 if the change is yours"
        raise ZfnetError(f"{path} is damaged ({error}); restore it, or {ours}") from error


def read(path: Path) -> list[Record]:
    """Return the records of a file, oldest first; an absent file has none.

    Raises:
        ZfnetError: A line is damaged.
    """
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            values = json.loads(line)
            records.append(Record(**values | {"provenance": Provenance(**values["provenance"])}))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ZfnetError(
                f"{path}, line {number} is no record ({error}); remove the line or restore the file"
            ) from error
    return records


def is_fresh(path: Path) -> bool:
    """Tell whether this very code made the records of a file, for a notebook before this one."""
    now, found = Stopwatch().provenance(), read(path)
    return bool(found) and not now.dirty and found[0].provenance.commit == now.commit != ""

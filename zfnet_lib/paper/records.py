"""The paper's numbers; ours, each a record with where it comes from; and tables and sentences that show them."""

from __future__ import annotations

import json
import platform
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from math import floor, log10, sqrt
from pathlib import Path
from statistics import mean, stdev, variance
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from ..files import PACKAGE, DamagedError, ZfnetError, alone, check, results_root, storing


@cache
def contents() -> dict[str, Any]:
    """Return everything in `paper.json`: tables, hyperparameters, architecture, figures, errata …."""
    return json.loads((files(__package__) / "paper.json").read_text(encoding="utf-8"))


@cache
def claims() -> dict[str, Any]:
    """Return `claims/claims.toml` as it stands; `claims.registry` makes claims of it."""
    return tomllib.loads((files(__package__) / "claims/claims.toml").read_text(encoding="utf-8"))


def errata() -> list[SimpleNamespace]:
    """Return the paper's errors: id, title, places with the printed words, arithmetic, and how we read it."""
    return [SimpleNamespace(**entry) for entry in contents()["errata"]]


def ambiguities() -> list[SimpleNamespace]:
    """Return what the paper leaves open: id, question, where, our default, and the code that takes it."""
    return [SimpleNamespace(**entry) for entry in contents()["ambiguities"]]


def cell(table: int, row: str, column: str, base: str = "") -> float:
    """Return a number of Table 1 to 6, by how its row's label begins; `base`: the network changed in Table 2."""
    for each in contents()["tables"][f"table_{table}"]["rows"]:
        if each["label"].startswith(row) and base in each.get("base_model", ""):
            return each["values"][column]
    raise LookupError(f"Table {table} has no row {row!r}")


def hyperparameter(name: str) -> Any:
    """Return what the paper's text states, such as `epochs`."""
    return next(each["value"] for each in contents()["hyperparameters"] if each["id"] == name)


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from: code, machine, seed and wall time."""

    commit: str  # empty outside a git checkout
    dirty: bool  # whether the code differed from it
    versions: dict[str, str]  # of Python and torch
    device: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class Record:
    """One measured number."""

    experiment: str  # what measured it, for example `bench-norm`
    quantity: str
    value: float
    unit: str
    provenance: Provenance
    n: int = 1  # runs, folds or pictures that it rests on
    spread: float | None = None  # their standard deviation; of benchmarks the range
    paper: float | None = None  # the paper's value, where it has one
    parameters: dict[str, Any] = field(default_factory=dict)
    spec: str = ""  # the architecture or weights
    data: str = ""  # the data set and its fingerprint


class Stopwatch:
    """Wall time since its making, to fill in `Provenance.seconds`."""

    def __init__(self) -> None:
        self.start = perf_counter()

    def provenance(self, seed: int = 0, device: torch.device | str = "cpu") -> Provenance:
        """Return the provenance of what was computed since the start."""
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        return Provenance(*_git_state(), versions, device_name(device), seed, round(perf_counter() - self.start, 3))


def device_name(device: torch.device | str = "cpu") -> str:
    """Return the processor's or GPU's name, with the number of threads used."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, " + ("GPU" if kind == "mps" else "1 thread" if threads == 1 else f"{threads} threads")


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@cache
def _git_state() -> tuple[str, bool]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # it may be installed below somebody's own repository
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "."))
    except (OSError, subprocess.CalledProcessError):
        return "", False


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a JSON-lines file; a reader sees all of them or none."""
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
    """Return stored lines of text; an absent file has none, and a damaged one is refused."""
    try:
        check(path)
        return path.read_text().splitlines() if path.exists() else []
    except (DamagedError, UnicodeDecodeError) as error:
        ours = f"remove {path.name}.sha256 if the change is yours"
        raise ZfnetError(f"{path} is damaged ({error}); restore it, or {ours}") from error


def read(path: Path) -> list[Record]:
    """Return the records of a file, oldest first; an absent file has none."""
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            values = json.loads(line)
            records.append(Record(**values | {"provenance": Provenance(**values["provenance"])}))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            repair = "remove the line or restore the file"
            raise ZfnetError(f"{path}, line {number} is no record ({error}); {repair}") from error
    return records


def is_fresh(path: Path) -> bool:
    """Tell whether this very code made the records of a file, for a notebook before this one."""
    now, found = Stopwatch().provenance(), read(path)
    if not found or now.dirty or found[0].provenance.dirty:
        return False
    return found[0].provenance.commit == now.commit != ""


@dataclass(frozen=True)
class Table:
    """Rows of values under the columns' titles, by key, with a note below; a notebook shows it as Markdown."""

    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, object]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown; columns of numbers are set flush right, missing values are empty."""
        values = [[row.get(key) for row in self.rows] for key in self.columns]
        numeric = (any(isinstance(value, int | float) for value in column) for column in values)
        rules = ["---:" if right else ":---" for right in numeric]
        lines = [f"| {' | '.join(self.columns.values())} |", f"|{'|'.join(rules)}|"]
        lines += [f"| {' | '.join(row)} |" for row in zip(*map(_cells, values), strict=True)]
        return "\n".join(lines + (["", f"*{self.note}*"] if self.note else []))

    _repr_markdown_ = markdown


def _cells(values: Sequence[object]) -> list[str]:
    """Write a column; fractions have at most four digits, and as many decimals as the longest of them needs."""
    short = [f"{value:.4g}" if isinstance(value, float) else "" for value in values]
    plain = ["" if "e" in text or "n" in text else text for text in short]  # no exponents, no nan
    decimals, cells = max((len(text.partition(".")[2]) for text in plain), default=0), []
    for value, text, fraction in zip(values, short, plain, strict=True):
        match value:
            case float():
                own = 3 - floor(log10(abs(value))) if fraction and value else decimals
                cells.append(f"{value:.{max(min(decimals, own), 0)}f}" if fraction else text)
            case bool():
                cells.append("yes" if value else "no")
            case int():
                cells.append(f"{value:,}")
            case _:
                cells.append("" if value is None else str(value))
    return cells


class Spread(NamedTuple):
    """The standard deviation of a value between seeds, and the degrees of freedom that it rests on; 0: unknown."""

    deviation: float
    freedom: int

    def margin(self, *terms: tuple[float, int]) -> float | None:
        """Return half the 95 % interval (Student's t) of a sum of means, each of a weight and of n seeds."""
        from scipy.stats import t  # whose import takes a second

        if not self.freedom:
            return None
        return float(t.ppf(0.975, self.freedom)) * self.deviation * sqrt(sum(w * w / n for w, n in terms))


def pooled(groups: Iterable[Sequence[float]]) -> Spread:
    """Pool the spread within groups, each of the values of one network's seeds; it is taken to be that of all."""
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    squares = sum(variance(group) * (len(group) - 1) for group in repeated)
    return Spread(sqrt(squares / freedom) if freedom else 0.0, freedom)


def mean_and_spread(values: Sequence[float], decimals: int = 1) -> str:
    """Write the mean of values, and of several their standard deviation."""
    return f"{mean(values):.{decimals}f}" + (f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else "")


GLUED = "application/papermill.record/"
"""Before the type of what a cell keeps for the book and does not show."""


class Sentence(str):
    """A sentence that a notebook shows as prose when it is a cell's last expression."""

    def glue(self, name: str) -> None:
        """Hand the sentence, without marks, to the book's prose, which takes it in by `{glue:text}`."""
        from IPython.display import display  # as `myst_nb.glue` does, whose import takes seconds

        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUED}}
        display({f"{GLUED}text/plain": repr(self.replace("`", ""))}, raw=True, metadata=metadata)

    def _repr_markdown_(self) -> str:
        return f"*{self}*" if self else ""


def benchmark(what: str) -> Table:
    """Return the last stored measurements of a benchmark, with the default and with the tuned allocator."""
    from ..bench import BENCHES  # they measure records

    if what not in BENCHES:
        raise ZfnetError(f"there is no benchmark {what!r}; known are {', '.join(BENCHES)}")
    found = read(results_root("tiny") / "bench" / f"{what}.jsonl")
    if not found:
        command = f"`zfnet bench {what} --json results/tiny/bench/{what}.jsonl`"
        return Table({"command": "Not run"}, [{"command": command}])
    rows, machines = {}, {"part": "Measured on"} | dict.fromkeys(("default", "tuned"), "not run: `--tuned`")
    for record in found:
        allocator, made, decimals = record.parameters["allocator"], record.provenance, int(record.value < 100)
        row = rows.setdefault((record.quantity, record.unit), {"part": record.quantity, "unit": record.unit})
        row[allocator] = f"{record.value:,.{decimals}f}"
        if record.spread is not None:
            row[allocator] += f" (range {record.spread:.{decimals}f}, n = {record.n})"
        commit = made.commit[:10] + (" and changes" if made.dirty else "")
        machines[allocator] = f"{made.device}, torch {made.versions['torch']}, {commit}"
    columns = {"part": "", "default": "Default allocator", "tuned": "Tuned", "unit": ""}
    return Table(columns, [*rows.values(), machines])

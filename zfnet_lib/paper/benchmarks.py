"""What `zfnet bench` measured last, from its stored records."""

from __future__ import annotations

from ..bench import BENCHES
from ..files import ZfnetError, results_root
from .records import Record, read
from .tables import Table

ALLOCATORS = ("default", "tuned")


def benchmark(what: str) -> Table:
    """Return the last stored measurements of one benchmark, with the default and with the tuned allocator.

    Args:
        what: A key of `bench.BENCHES`.

    Returns:
        A row for each measured quantity, with the range of its rounds, and the machine in the last row; the
        command where nothing is stored.

    Raises:
        ZfnetError: There is no such benchmark, or its records are damaged.
    """
    if what not in BENCHES:
        raise ZfnetError(f"there is no benchmark {what!r}; known are {', '.join(BENCHES)}")
    last = {
        (record.parameters["allocator"], *_kind(record)): record
        for record in read(results_root("tiny") / "bench" / f"{what}.jsonl")
    }
    if not last:
        command = f"`zfnet bench {what} --json results/tiny/bench/{what}.jsonl`"
        return Table({"command": "Not run"}, [{"command": command}])
    kinds = dict.fromkeys(_kind(record) for record in last.values())
    rows = [
        {"part": part, "unit": unit} | {name: _shown(last.get((name, part, unit))) for name in ALLOCATORS}
        for part, unit in kinds
    ]
    rows.append({"part": "Measured on"} | {name: _machine(last, name) for name in ALLOCATORS})
    return Table({"part": "", "default": "Default allocator", "tuned": "Tuned", "unit": ""}, rows)


def _kind(record: Record) -> tuple[str, str]:
    return record.quantity, record.unit


def _shown(record: Record | None) -> str:
    if record is None:
        return ""
    decimals = 1 if record.value < 100 else 0
    value = f"{record.value:,.{decimals}f}"
    return value if record.spread is None else f"{value} (range {record.spread:.{decimals}f}, n = {record.n})"


def _machine(last: dict[tuple[str, str, str], Record], allocator: str) -> str:
    """Return what measured with an allocator: device, version of torch, commit."""
    made = [record.provenance for (name, *_), record in last.items() if name == allocator]
    if not made:
        return "not run: `--tuned`"
    commit = made[-1].commit[:10] + (" and changes" if made[-1].dirty else "")
    return f"{made[-1].device}, torch {made[-1].versions['torch']}, {commit}"

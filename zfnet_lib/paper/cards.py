"""What the shipped weights are: a card for each, from what is stored beside them."""

from __future__ import annotations

from typing import Any

from ..datasets.overlap import known_overlaps
from ..files import results_root
from ..weights import WEIGHTS, CheckpointError, read_meta
from . import records
from .setting import DATA, profile_of
from .tables import Table
from .trainings import RETRAINED, SHIPPED, Retrained, Shipped, has_splits, performed, read_epochs

RECALLED = {"caltech-101": "44 (recalled)", "caltech-256": "243 (recalled)"}
"""The paper's footnote on the overlap with ImageNet, as it is remembered from the published version."""


def weight_card(name: str) -> Table:
    """Return what shipped weights were trained on, for how long, their errors, and what they are good for.

    Args:
        name: A key of `shipping.SHIPPED` or `shipping.RETRAINED`.
    """
    entry = (SHIPPED | RETRAINED)[name]
    root = results_root(entry.training.recipe.name if name in SHIPPED else "tiny")
    folder = root / "weights" / name
    try:
        meta = read_meta(folder)
    except CheckpointError:
        return _card(name, {"Not run": _commands(name)})
    stored = entry.stored if name in SHIPPED else "float16"
    facts = (_training(entry, meta) if name in SHIPPED else _softmax(entry, meta)) | {
        "Good for": entry.good_for,
        "Stored": f"{stored}, {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB",
    }
    return _card(name, facts | dict(map(_measured, records.read(root / "errors" / f"{name}.jsonl"))))


def overlaps(profile: str) -> Table:
    """Return how many training pictures are left out for each transfer data set, beside the paper's counts.

    Their footnote is missing from the text at hand; they are recalled.
    """
    data = DATA[profile_of(profile).name]
    columns = {
        "second": "Transfer data set",
        "pairs": "Pictures left out",
        "compared": "Compared",
        "paper": "Paper",
    }
    rows = [
        {
            "second": overlap.second,
            "pairs": len({pair.first for pair in overlap.pairs}),
            "compared": f"{overlap.compared[0]:,} with {overlap.compared[1]:,}",
            "paper": RECALLED.get(overlap.second.split()[0], ""),
        }
        for overlap in known_overlaps(data, "train")
    ]
    return Table(columns, rows)


def _commands(name: str) -> str:
    """Return what makes weights that do not ship yet."""
    trained = f"`{SHIPPED[name].training.command}`, then " if name in SHIPPED else ""
    return f"{trained}`zfnet ship {name}`"


def _softmax(entry: Retrained, meta: dict[str, Any]) -> dict[str, str]:
    """Return what a softmax stands on, what it was trained on, and for how long."""
    record, made = meta["record"], meta["record"]["provenance"]
    return {
        "Network": f"the convolutions of `{entry.base}`, which are fetched, and a new softmax",
        "Trained on": record["data"],
        "Time": _time(made["seconds"], made),
    }


def _training(entry: Shipped, meta: dict[str, Any]) -> dict[str, str]:
    """Return what the weights were trained on, how, and for how long."""
    training, record = performed(entry.training), meta["record"]
    recipe = training.recipe
    epochs = [line["epoch"] for line in read_epochs(training.epochs_file)]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    made, size = record["provenance"], meta["spec"]["image_size"]
    why = "left out (section 5.2)" if has_splits(training.data) else "kept for testing"
    return {
        "Network": f"`{training.network}` at {size} pixels, layers up to {entry.upto or 'fc8'}",
        "Trained on": f"{record['data']}, {record['excluded']} pictures {why}",
        "Recipe": f"`{recipe.name}`, {len(epochs)} epochs, {recipe.precision}, seed {training.seed}; "
        f"filters renormalised: {recipe.clip}",
        "Time": _time(seconds, made),
    }


def _time(seconds: float, made: dict[str, Any]) -> str:
    length = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    return f"{length} on {made['device']}, with other work beside it; commit {made['commit'][:10]}"


def _measured(record: records.Record) -> tuple[str, str]:
    views = record.parameters.get("views")
    title = record.quantity[0].upper() + record.quantity[1:] + (f", views: {views}" if views else "")
    return title, f"{record.value:.2f} {record.unit}"


def _card(name: str, facts: dict[str, str]) -> Table:
    rows = [{"fact": fact, "value": value} for fact, value in facts.items()]
    return Table({"fact": f"`{name}`", "value": ""}, rows)

"""Tables 1 and 2: errors beside the paper's. Their rows are `trainings.TABLE_1` and `architecture.TABLE_2`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from statistics import mean, stdev
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from ..architecture import STEMS, TABLE_2
from ..evaluation import errors
from ..files import results_root
from ..training import SMOKE
from . import numbers, records
from .curves import label
from .plots import BLUE, SMALL, VERMILION, Figure
from .setting import DATA, profile_of, training_of
from .tables import Note, Table
from .trainings import TABLE_1, read_epochs, trained, training_data

ERRORS = {"train": "train top-1", "val1": "val top-1", "val5": "val top-5"}
"""The columns; records call them `train top-1 error`, `paper.json` `train_top1`."""

SEEDS = 10
"""Trainings of one network that are looked for."""

Errors = Mapping[str, Sequence[float]]
"""In percent, by column: one for each training."""


class Comparison(NamedTuple):
    """The paper's rows beside ours, what ours rest on, and for the plot a dict for each network."""

    table: Table
    source: Note
    points: Sequence[Mapping] = ()


def table1(profile: str) -> Comparison:
    """Compare single networks and averages of several with Table 1; `smoke` trains them on the spot."""
    rows = []
    for members, row in zip(TABLE_1, numbers.own_rows("table_1"), strict=True):
        if profile == "smoke":
            found = errors([trained(*member).net for member in members], training_data("shapes", "val"))
            ours = {"val1": [found.top1], "val5": [found.top5]}
        elif len(members) == 1:
            ours = errors_of(profile, members[0][0])
        else:
            networks = sorted(training_of(profile, *member).name for member in members)
            stored = records.read(results_root(profile) / "errors" / "ensembles.jsonl")
            ours = _by_column(one for one in stored if one.parameters["networks"] == networks)
        rows.append(_row(row["label"], row["values"], ours, ("val1", "val5")))
    return Comparison(_table(rows, ("val1", "val5")), basis(profile))


def table2(profile: str, seeds: int = 1) -> Comparison:
    """Compare every row of Table 2 with ours: `seeds` trainings on the spot in `smoke`, else all that were run.

    Rows that are added to `TABLE_2`, after the paper's, are shown without printed numbers.
    """
    rows, points = [], []
    added = {"label": "added here", "values": {}}
    printed = chain(numbers.own_rows("table_2"), repeat(added))
    for row, (name, spec) in zip(printed, TABLE_2.items(), strict=False):
        ours = errors_of(profile, name, seeds)
        rows.append(_row(f"`{name}`: {row['label']}", row["values"], ours, ERRORS))
        points.append(
            {
                "name": name,
                "layers": len(spec.layers),
                "parameters": sum(spec.parameters().values()),
                "paper": row["values"].get("val_top1"),
                "ours": mean(ours["val1"]) if ours["val1"] else None,
            }
        )
    return Comparison(_table(rows, ERRORS), basis(profile), points)


def errors_of(profile: str, name: str, seeds: int = 1) -> Errors:
    """Return a network's errors with one view, from one training a seed; in `smoke` it is trained on the spot."""
    if profile_of(profile).name == "smoke":
        made = [trained(name, seed) for seed in range(seeds)]
        return {key: [getattr(one, key) for one in made] for key in ERRORS}
    paths = [training_of(profile, name, seed).errors_file for seed in range(SEEDS)]
    return _by_column(record for path in paths for record in records.read(path))


def contest(profile: str) -> Note:
    """Say whether Fig. 3's network beats Krizhevsky's here, and whether the spread over seeds allows to say so."""
    ours, theirs = (errors_of(profile, name)["val1"] for name in ("zfnet", "krizhevsky"))
    if not ours or not theirs:
        return Note("Not run: the comparison needs a finished training of each.")
    lead = mean(theirs) - mean(ours)
    both = (
        f"Validation top-1 error: `zfnet` {spread(ours)} % (n = {len(ours)}), `krizhevsky` {spread(theirs)} % "
        f"(n = {len(theirs)}); `zfnet` is {abs(lead):.1f} points {'better' if lead > 0 else 'worse'}."
    )
    if min(len(ours), len(theirs)) < 2:
        return Note(f"{both} With one training of a network its spread is unknown: this decides nothing.")
    doubt = (stdev(ours) ** 2 + stdev(theirs) ** 2) ** 0.5
    clear = "more" if abs(lead) > 2 * doubt else "no more"
    return Note(f"{both} That is {clear} than twice the spread of such a difference, {doubt:.1f} points.")


def missing_table(profile: str) -> Table:
    """Return the networks of Table 2 and the crossed stems that were not trained yet, each with its command."""
    if profile_of(profile).name == "smoke":
        return Table({"network": "Nothing is missing: all are trained on the spot"}, [])
    runs = [training_of(profile, name) for name in TABLE_2 | STEMS]
    rows = [
        {"network": run.network, "command": f"`{run.command} --resume`"}
        for run in runs
        if not run.errors_file.exists()
    ]
    return Table({"network": "Not run", "command": "Command"}, rows)


def basis(profile: str) -> Note:
    """Say what the numbers rest on."""
    if profile == "smoke":
        return Note(
            f"Trained on the spot: narrow networks, {SMOKE.expected}. So little training "
            f"tests the machinery; it is no evidence about depth or width."
        )
    files = (results_root(profile) / "trainings").glob("*.jsonl")
    recorded = (line for path in files for line in read_epochs(path))
    lines = [line for line in recorded if line["data"].startswith(f"{DATA[profile]} ")]
    if not lines:
        return Note(f"No training of the profile `{profile}` has been recorded.")
    data = ", ".join(sorted({line["data"] for line in lines}))
    devices = ", ".join(sorted({line["provenance"]["device"] for line in lines}))
    commits = ", ".join(commit[:10] for commit in sorted({line["provenance"]["commit"] for line in lines}))
    hours = sum(line["epoch"]["seconds"] for line in lines) / 3600
    return Note(
        f"Trainings: {len({line['training'] for line in lines})}, on {data}; {hours:.1f} hours in all on "
        f"{devices}; commits {commits}. One centre view, dropout off."
    )


def spread(values: Sequence[float]) -> str:
    """Return the mean, and of several values the standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def depth_and_width(points: Sequence[Mapping]) -> Figure:
    """Draw validation errors of Table 2's networks, the paper's and ours, against their layers and parameters."""
    figure = Figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, words in zip(
        panels, ("layers", "parameters"), ("layers with weights", "parameters"), strict=True
    ):
        for who, colour, marker in (("paper", BLUE, "o"), ("ours", VERMILION, "D")):
            known = [point for point in points if point[who] is not None]
            x, y = [point[key] for point in known], [point[who] for point in known]
            axes.plot(x, y, marker, color=colour, markersize=5, label=who, alpha=0.8)
        label(axes, "", words, "validation top-1 error, %" if axes is panels[0] else "")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xscale("log")
    panels[0].legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def _by_column(found: Iterable[records.Record]) -> Errors:
    """Sort the errors of stored records with one view by their columns."""
    values = [(one.quantity, one.value) for one in found if one.parameters["views"] == 1]
    return {key: [v for quantity, v in values if quantity == f"{title} error"] for key, title in ERRORS.items()}


def _row(name: str, printed: Mapping[str, float], ours: Errors, keys: Iterable[str]) -> dict[str, object]:
    """Return a row's cells: the paper's errors, ours with the difference, and how many trainings they rest on."""
    cells: dict[str, object] = {"network": name}
    for key in keys:
        paper = printed.get(ERRORS[key].replace(" ", "_").replace("-", ""))
        own = spread(ours[key]) if ours["val1"] else "not run"
        if ours["val1"] and paper is not None:
            own += f" ({mean(ours[key]) - paper:+.1f})"
        cells |= {f"paper_{key}": paper, f"ours_{key}": own}
    return cells | {"n": len(ours["val1"])}


def _table(rows: Sequence[Mapping], keys: Iterable[str]) -> Table:
    columns = {"network": "Network"}
    for key in keys:
        columns |= {f"paper_{key}": f"Paper, {ERRORS[key]}", f"ours_{key}": f"Ours, {ERRORS[key]} (difference)"}
    return Table(columns | {"n": "n"}, rows)

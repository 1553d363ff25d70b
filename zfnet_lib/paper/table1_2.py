"""Tables 1 and 2: errors beside the paper's. Their rows are `trainings.TABLE_1` and `architecture.TABLE_2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from statistics import mean
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from ..architecture import TABLE_2
from ..evaluation import errors
from ..files import results_root
from ..training import SMOKE
from . import trainings
from .plots import BLUE, SMALL, VERMILION, Figure, plain
from .records import Sentence, Table, contents
from .setting import DATA, profile_of, training_of

ERRORS = {"train": "train top-1", "val1": "val top-1", "val5": "val top-5"}
"""The columns' titles; `paper.json` says `train_top1`."""


class Row(NamedTuple):
    """A network, or several averaged, with its errors in print and here."""

    title: str
    base: str  # title of the row that differences are to
    paper: Mapping[str, float | None]  # as `paper.json` names them; empty where we added the row
    ours: Sequence[Mapping[str, float]] = ()  # of each training in percent, by column
    ten: Sequence[Mapping[str, float]] = ()  # from ten views
    single: bool = True  # not an average of several, whose spread between seeds is unknown


class Comparison(NamedTuple):
    """The paper's rows beside ours, what ours rest on, and for the plot a dict for each network."""

    table: Table
    source: Sentence
    points: Sequence[Mapping] = ()


def table1(profile: str) -> Comparison:
    """Compare single networks and averages of several with Table 1; `smoke` trains them on the spot."""
    printed = {row["label"]: row["values"] for row in contents()["tables"]["table_1"]["rows"]}
    base, rows, labels = next(iter(trainings.TABLE_1)), [], list(printed)
    for added, following in pairwise(trainings.TABLE_1):
        if added not in printed:
            labels.insert(labels.index(following), added)
    for label in labels:
        runs = [training_of(profile, *member) for member in trainings.TABLE_1.get(label, ())]
        if not runs:
            ours = ten = ()  # of other groups
        elif profile == "smoke":
            found = errors([trainings.trained(run) for run in runs], trainings.training_data("shapes", "val"))
            ours, ten = [{"val1": found.top1, "val5": found.top5}], ()
        elif len(runs) == 1:
            ours, ten = (trainings.errors_over_seeds(runs[0], views=views) for views in (1, 10))
        else:
            file, names = trainings.ensembles_file(profile), [run.name for run in runs]
            stored = (trainings.recorded_errors(file, views, names) for views in (1, 10))
            ours, ten = ([found] if found else [] for found in stored)
        title = label if label in printed else f"{label} (added here)"
        rows.append(Row(title, base if runs else "", printed.get(label, {}), ours, ten, len(runs) < 2))
    return Comparison(_table(profile, rows, ("val1", "val5"), test="test_top5"), basis(profile))


def table2(profile: str, seeds: int = 1) -> Comparison:
    """Compare every row of Table 2 with ours: `seeds` trainings on the spot in `smoke`, else all that were run."""
    rows, points, printed = [], [], {row["network"]: row for row in contents()["tables"]["table_2"]["rows"]}
    titles = {name: f"`{name}`: {printed.get(name, {'label': 'added here'})['label']}" for name in TABLE_2}
    for name, spec in TABLE_2.items():
        values = printed.get(name, {"values": {}})["values"]
        ours, ten = (errors_of(profile, name, seeds, views) for views in (1, 10))
        rows.append(Row(titles[name], titles[name.partition("-")[0]], values, ours, ten))
        error = mean(one["val1"] for one in ours) if ours else None
        point = {"name": name, "layers": len(spec.layers), "parameters": sum(spec.parameters().values())}
        points.append(point | {"paper": values.get("val_top1"), "ours": error})
    return Comparison(_table(profile, rows, tuple(ERRORS)), basis(profile), points)


def errors_of(profile: str, name: str, seeds: int = 1, views: int = 1) -> Sequence[Mapping[str, float]]:
    """Return a network's errors, of one training a seed: of all, or in `smoke` of `seeds` trained on the spot."""
    seeds = seeds if profile_of(profile).name == "smoke" else 0
    for seed in range(seeds):
        trainings.trained(training_of(profile, name, seed))
    return trainings.errors_over_seeds(training_of(profile, name), seeds, views)


def contest(profile: str) -> Sentence:
    """Say how far Fig. 3's network is from Krizhevsky's here, and what the spread between seeds allows."""
    ours, theirs = ([one["val1"] for one in errors_of(profile, name)] for name in ("zfnet", "krizhevsky"))
    if not ours or not theirs:
        return Sentence("Not run: the comparison needs a finished training of each.")
    lead = mean(theirs) - mean(ours)
    zfnet, krizhevsky = (f"{mean(values):.1f} % (n = {len(values)})" for values in (ours, theirs))
    both = (
        f"Validation top-1 error: `zfnet` {zfnet}, `krizhevsky` {krizhevsky}; `zfnet` is {abs(lead):.1f} points "
        f"{'better' if lead > 0 else 'worse'}."
    )
    spread, told = trainings.between_seeds(training_of(profile, "zfnet"), itemgetter("val1"))
    margin = spread.margin((1, len(ours)), (-1, len(theirs)))
    if margin is None:
        return Sentence(f"{both} {told} One training of each decides nothing.")
    return Sentence(
        f"{both} {told} A difference of more than {margin:.1f} points between two such networks is clear (95 %)."
    )


def missing_table(profile: str) -> Table:
    """Return the trainings that Tables 1 and 2 lack, those that more rests on first, with what performs each."""
    if profile_of(profile).name == "smoke":
        return Table({"network": "Nothing is missing: all are trained on the spot"}, [])
    like = training_of(profile, "zfnet")
    runs = [run for run in trainings.queue(like.data, like.recipe) if not run.errors_file.exists()]
    rows = [{"network": run.network, "seed": run.seed, "command": f"`{run.command} --resume`"} for run in runs]
    columns = {"network": "Not run", "seed": "Seed", "command": "Command"}
    whole = f"zfnet train --table 2 --data {like.data} --recipe {like.recipe.name}"
    return Table(columns, rows, f"All: `{whole}`; {trainings.cost(runs)}." if runs else "")


def basis(profile: str) -> Sentence:
    """Say what the numbers rest on."""
    if profile == "smoke":
        return Sentence(
            f"Trained on the spot: narrow networks, {SMOKE.expected}. So little training "
            f"tests the machinery; it is no evidence about depth or width."
        )
    files = (results_root(profile) / "trainings").glob("*.jsonl")
    recorded = (line for path in files for line in trainings.read_epochs(path))
    lines = [line for line in recorded if line["data"].startswith(f"{DATA[profile]} ")]
    if not lines:
        return Sentence(f"No training of the profile `{profile}` has been recorded.")
    data = ", ".join(sorted({line["data"] for line in lines}))
    made = [line["provenance"] for line in lines]
    devices = " and ".join(sorted({each["device"] for each in made}))
    commits = ", ".join(commit[:10] for commit in sorted({each["commit"] for each in made}))
    hours = sum(line["epoch"]["seconds"] for line in lines) / 3600
    return Sentence(
        f"Trainings: {len({line['training'] for line in lines})}, on {data}; {hours:.1f} hours in all on "
        f"{devices}; commits {commits}. One centre view where ten are not named, dropout off."
    )


def depth_and_width(points: Sequence[Mapping]) -> Figure:
    """Draw validation errors of Table 2's networks, the paper's and ours, against their layers and parameters."""
    figure = Figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key in zip(panels, ("layers", "parameters"), strict=True):
        for who, colour, marker in (("paper", BLUE, "o"), ("ours", VERMILION, "D")):
            known = [point for point in points if point[who] is not None]
            x, y = [point[key] for point in known], [point[who] for point in known]
            axes.plot(x, y, marker, color=colour, markersize=5, label=who, alpha=0.8)
    plain(panels[0], "", "layers with weights", "validation top-1 error, %")
    plain(panels[1], "", "parameters")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xscale("log")
    panels[0].legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def _table(profile: str, rows: Sequence[Row], keys: Sequence[str], test: str = "") -> Table:
    """Return each row's errors in print and here, how far from its base's, and on how many trainings ours rest."""
    like, known = training_of(profile, "zfnet"), {row.title: row for row in rows}
    spreads = {key: trainings.between_seeds(like, itemgetter(key)) for key in keys}
    columns, shown = {"network": "Network"}, [{"network": row.title} for row in rows]

    def cell(row: Row, key: str, which: str) -> str:
        own, base = _value(row, key, which), _value(known.get(row.base, row), key, which)
        if own is None:
            return "not run" if which == "ours" and row.base else ""
        margin = spreads[key][0].margin((1, len(row.ours))) if which == "ours" and row.single else None
        doubt = "" if margin is None else f" ± {margin:.1f}"
        change = "" if base is None or row.base in ("", row.title) else f" ({own - base:+.1f})"
        return f"{own:.1f}{doubt}{change}"

    for key in keys:
        titles = {"paper": f"Paper, {ERRORS[key]}", "ours": f"Ours, {ERRORS[key]}", "ten": "Ours, ten views"}
        for which, title in titles.items():
            found = [cell(row, key, which) for row in rows]
            if any(found):
                columns[f"{which}_{key}"] = title
                for line, text in zip(shown, found, strict=True):
                    line[f"{which}_{key}"] = text
    if test:
        columns[test] = f"Paper, {test.replace('_top', ' top-')}"
    for row, line in zip(rows, shown, strict=True):
        line |= {"n": len(row.ours) or None} | ({test: row.paper.get(test)} if test else {})
    told = {f"{ERRORS[key]}: {words}" if spread.freedom else words: key for key, (spread, words) in spreads.items()}
    return Table(columns | {"n": "n"}, shown, " ".join(told))


def _value(row: Row, key: str, which: str) -> float | None:
    """Return a row's error in print (`paper`) or its mean over seeds here (`ours`, `ten`), where it has one."""
    if which == "paper":
        return row.paper.get(ERRORS[key].replace(" ", "_").replace("-", ""))
    values = [one[key] for one in getattr(row, which) if key in one]
    return mean(values) if values else None

"""Tables 1 and 2: errors beside the paper's. Their rows are `trainings.TABLE_1` and `architecture.TABLE_2`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from ..architecture import STEMS, TABLE_2
from ..evaluation import errors
from ..files import results_root
from ..training import SMOKE
from . import numbers, trainings
from .plots import BLUE, SMALL, VERMILION, Figure, plain
from .records import Sentence, Table, mean_and_spread
from .setting import DATA, profile_of, training_of

ERRORS = {"train": "train top-1", "val1": "val top-1", "val5": "val top-5"}
"""The columns' titles; `paper.json` says `train_top1`."""

ADDED = {"label": "added here", "values": {}}  # rows that a reader adds have no printed numbers

Errors = Sequence[Mapping[str, float]]
"""Of each training in percent, by column."""


class Comparison(NamedTuple):
    """The paper's rows beside ours, what ours rest on, and for the plot a dict for each network."""

    table: Table
    source: Sentence
    points: Sequence[Mapping] = ()


def table1(profile: str) -> Comparison:
    """Compare single networks and averages of several with Table 1; `smoke` trains them on the spot."""
    rows, printed = [], numbers.own_rows("table_1", by="label")
    for label, members in trainings.TABLE_1.items():
        runs = [training_of(profile, *member) for member in members]
        if profile == "smoke":
            found = errors([trainings.trained(run) for run in runs], trainings.training_data("shapes", "val"))
            ours = [{"val1": found.top1, "val5": found.top5}]
        elif len(runs) == 1:
            ours = trainings.errors_over_seeds(runs[0])
        else:
            names = [run.name for run in runs]
            stored = trainings.recorded_errors(trainings.ensembles_file(profile), networks=names)
            ours = [stored] if stored else []
        rows.append((label, printed.get(label, ADDED)["values"], ours))
    return Comparison(_table(rows, ("val1", "val5")), basis(profile))


def table2(profile: str, seeds: int = 1) -> Comparison:
    """Compare every row of Table 2 with ours: `seeds` trainings on the spot in `smoke`, else all that were run."""
    rows, points, printed = [], [], numbers.own_rows("table_2", by="network")
    for name, spec in TABLE_2.items():
        row, ours = printed.get(name, ADDED), errors_of(profile, name, seeds)
        rows.append((f"`{name}`: {row['label']}", row["values"], ours))
        error = mean(one["val1"] for one in ours) if ours else None
        point = {"name": name, "layers": len(spec.layers), "parameters": sum(spec.parameters().values())}
        points.append(point | {"paper": row["values"].get("val_top1"), "ours": error})
    return Comparison(_table(rows, ERRORS), basis(profile), points)


def errors_of(profile: str, name: str, seeds: int = 1) -> Errors:
    """Return a network's errors with one view, of one training a seed; in `smoke` it is trained on the spot."""
    if profile_of(profile).name != "smoke":
        return trainings.errors_over_seeds(training_of(profile, name))
    for seed in range(seeds):
        trainings.trained(training_of(profile, name, seed))
    return trainings.errors_over_seeds(training_of(profile, name), seeds)


def contest(profile: str) -> Sentence:
    """Say whether Fig. 3's network beats Krizhevsky's here, and whether the spread over seeds allows to say so."""
    ours, theirs = ([one["val1"] for one in errors_of(profile, name)] for name in ("zfnet", "krizhevsky"))
    if not ours or not theirs:
        return Sentence("Not run: the comparison needs a finished training of each.")
    lead = mean(theirs) - mean(ours)
    zfnet, krizhevsky = (f"{mean_and_spread(values)} % (n = {len(values)})" for values in (ours, theirs))
    both = (
        f"Validation top-1 error: `zfnet` {zfnet}, `krizhevsky` {krizhevsky}; `zfnet` is {abs(lead):.1f} points "
        f"{'better' if lead > 0 else 'worse'}."
    )
    if min(len(ours), len(theirs)) < 2:
        return Sentence(f"{both} With one training of a network its spread is unknown: this decides nothing.")
    doubt = (stdev(ours) ** 2 + stdev(theirs) ** 2) ** 0.5
    clear = "more" if abs(lead) > 2 * doubt else "no more"
    return Sentence(f"{both} That is {clear} than twice the spread of such a difference, {doubt:.1f} points.")


def missing_table(profile: str) -> Table:
    """Return the networks of Table 2 and the crossed stems that were not trained yet, each with its command."""
    if profile_of(profile).name == "smoke":
        return Table({"network": "Nothing is missing: all are trained on the spot"}, [])
    runs = [training_of(profile, name) for name in TABLE_2 | STEMS]
    missing = [run for run in runs if not run.errors_file.exists()]
    rows = [{"network": run.network, "command": f"`{run.command} --resume`"} for run in missing]
    return Table({"network": "Not run", "command": "Command"}, rows)


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
    devices = ", ".join(sorted({each["device"] for each in made}))
    commits = ", ".join(commit[:10] for commit in sorted({each["commit"] for each in made}))
    hours = sum(line["epoch"]["seconds"] for line in lines) / 3600
    return Sentence(
        f"Trainings: {len({line['training'] for line in lines})}, on {data}; {hours:.1f} hours in all on "
        f"{devices}; commits {commits}. One centre view, dropout off."
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


def _table(rows: Sequence[tuple[str, Mapping, Errors]], keys: Iterable[str]) -> Table:
    """Return names with the paper's errors, ours with the difference, and how many trainings these rest on."""
    columns, shown = {"network": "Network"}, [{"network": name, "n": len(ours)} for name, _, ours in rows]
    for key in keys:
        columns |= {f"paper_{key}": f"Paper, {ERRORS[key]}", f"ours_{key}": f"Ours, {ERRORS[key]} (difference)"}
        for (_, printed, ours), row in zip(rows, shown, strict=True):
            paper = printed.get(ERRORS[key].replace(" ", "_").replace("-", ""))
            own, values = "not run", [one[key] for one in ours if key in one]
            if ours:
                own = mean_and_spread(values) + ("" if paper is None else f" ({mean(values) - paper:+.1f})")
            row |= {f"paper_{key}": paper, f"ours_{key}": own}
    return Table(columns | {"n": "n"}, shown)

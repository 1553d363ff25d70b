"""Sections 5.2, 5.3 and 6: what the features are worth on other data sets, over the paper's folds.

No claim holds by the rows of a downloaded network (ImageNet's AlexNet); one may keep a claim from failing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from math import inf
from statistics import mean

import numpy as np

from ...datasets import DATASETS, MissingDataError
from ...datasets.overlap import known_overlaps, title_of
from ...files import results_root
from ..records import Record, cell, contents
from ..sanity import rank_correlation
from ..setting import profile_of, training_of
from ..table3_4_6 import (
    ACCURACY,
    FOLDS,
    LAYERS,
    PLACE,
    SOURCES,
    Source,
    best_trial,
    scratch_accuracies,
    scratch_trainings,
)
from ..table5 import BY_FEATURES, BY_LOSS, GAIN, ONE, SEVERAL, several_file
from ..trainings import cost, undivided
from ..transfer import per_class_accuracy, protocol_folds
from .evidence import (
    UNTESTABLE,
    Finding,
    NotRun,
    Number,
    Stored,
    Subject,
    above,
    at_least,
    below,
    beyond,
    counted,
    every,
    exact,
    measured,
    no,
    over_seeds,
    some,
    verdict,
)

CLASSIFIERS = ("svm", "softmax")
OURS = ("fc7", "softmax")  # the paper's own way
over_folds = partial(over_seeds, unit="points", least=FOLDS)


class Place:
    """One data set to which a profile transfers features, and the accuracies there, one a fold."""

    def __init__(self, profile: str, data: str):
        self.profile, self.data, self.network = profile, data, profile_of(profile).network
        self.untrained = f"{self.network}, untrained"
        trials = {each.name: each.trials for each in SOURCES[profile] if each.data == data}
        # Training pictures a class: of the tables, of Fig. 7, and the most.
        self.sizes, self.curve = (sorted({each.each for each in trials[name]}) for name in ("hog", self.network))
        self.most = self.sizes[-1]

    def stored(self, source: str) -> Stored:
        """Return what is stored of a source."""
        table = 3 + PLACE[self.profile].index(self.data)
        again = f"`zfnet run table{table} --profile {self.profile} --live`; about an hour on two cores"
        return Stored(self.profile, f"transfer/{Source(source, self.data, ()).record}", again)

    def record(self, layer: str, classifier: str, each: int = 0, source: str = "") -> Record:
        """Return the record of a trial: by default of the profile's network, with the most pictures a class."""
        found = self.stored(layer if layer in ("hog", "pixels") else source or self.network)
        return found.record(ACCURACY, layer=layer, classifier=classifier, each=each or self.most)

    def tried(self, *trial: str, each: int = 0, source: str = "") -> np.ndarray:
        """Return the accuracies of a trial, as `record` takes it."""
        return np.array(self.record(*trial, each, source).parameters["folds"])

    def rival(self, source: str, each: int) -> np.ndarray:
        """Return the best that a source reached with so many pictures a class, by any layer and classifier."""
        stored = self.stored(source)
        if (found := best_trial(stored.contents, each)) is None:
            raise NotRun(stored.again)
        return np.array(found.parameters["folds"])

    def scratch(self, each: int) -> np.ndarray:
        """Return the accuracies of the trainings from scratch."""
        values = scratch_accuracies(self.profile, self.data, each)
        if not values:
            first, *_, last = runs = scratch_trainings(self.profile, self.data, each)
            raise NotRun(f"`{first.command}`, and so on to `--seed {last.seed}`; {cost(runs)}")
        return np.array(values)


def places(stored: Stored | Subject) -> list[Place]:
    """Return what stands for Caltech-101 and Caltech-256; one where both are the same."""
    return [Place(stored.profile, data) for data in dict.fromkeys(PLACE[stored.profile])]


def best_caltech_101(stored: Stored, **_: float) -> Finding:
    at, numbers = places(stored)[0], {}
    with suppress(NotRun):
        own, printed = at.tried(*OURS), cell(3, "ImageNet-pretrained", "train_30")
        numbers = {
            f"{at.data}, softmax (7), {at.most} a class": over_folds(own, unit="%"),
            "above hog": over_folds(own - at.tried("hog", "svm")),
            f"above the printed {printed}": over_folds(own - printed),
        }
    return Finding(UNTESTABLE, numbers)


def best_caltech_256(stored: Stored) -> Finding:
    at, numbers, missing = places(stored)[-1], {}, ""
    for each in at.sizes:
        own = at.tried(*OURS, each=each)
        numbers[f"{each} a class, above hog"] = over_folds(own - at.rival("hog", each))
        try:
            numbers[f"{each} a class, above untrained"] = over_folds(own - at.rival(at.untrained, each))
        except NotRun as unrun:
            missing = f" Not run, the untrained network: {unrun}."
    holds = every([*(above(number, 0) for number in numbers.values()), None if missing else True])
    return Finding(verdict(holds), numbers, f"On {at.data} for Caltech-256.{missing}")


def beats_scratch(stored: Stored, wide: float) -> Finding:
    numbers, shrinks, notes = {}, [], []
    for at in places(stored):
        margins, missing = [], {}
        for each in at.sizes:
            try:
                own, scratch = at.tried(*OURS, each=each), at.scratch(each)
            except NotRun as reason:
                missing[str(each)] = reason
                continue
            margins.append(own[: len(scratch)] - scratch)
            numbers[f"{at.data}, {each} a class"] = over_folds(margins[-1])
        for few, many in pairwise(margins):
            n = min(len(few), len(many))
            shrinks.append(above(over_folds(few[:n] - many[:n]), 0))
        if missing:
            notes.append(f"On {at.data}, {', '.join(missing)} a class: {next(iter(missing.values()))}.")
    if not numbers:
        raise NotRun(notes[0])
    if (n := min(number.n for number in numbers.values())) < FOLDS:
        notes.insert(0, f"{n} of {FOLDS} folds from scratch.")
    within = some(number.low is not None and number.low <= 0 for number in numbers.values())
    holds = every([*(above(number, wide) for number in numbers.values()), *shrinks])
    return Finding(verdict(holds, within), numbers, " ".join(notes))


def few_beat_many(stored: Stored, enough: float, few: float) -> Finding:
    at, missing = places(stored)[-1], ""
    curve = {each: over_folds(at.tried(*OURS, each=each)) for each in at.curve}
    rivals = {name: at.rival(name, at.most) for name in ("hog", "pixels", at.untrained)}
    try:
        rivals["from scratch"] = at.scratch(at.most)
    except NotRun as unrun:
        missing = f" Not run, from scratch: {unrun}."
    numbers = {
        f"{name} with {at.most} a class ({mean(rival):.1f} %) is passed with": fewer(curve, rival, at.most)
        for name, rival in rivals.items()
    }
    holds = every([*(at_least(number, enough) for number in numbers.values()), None if missing else True])
    fails = some(below(number, few) for number in numbers.values())
    return Finding(verdict(holds, fails), numbers, f"On {at.data} for Caltech-256.{missing}")


def fewer(curve: dict[int, Number], rival: np.ndarray, most: int) -> Number:
    """Return how many times fewer pictures than `most` a curve needs to pass a rival; 0 where it never does."""
    other = over_folds(rival)
    n = min(number.n for number in (*curve.values(), other))

    def times(edge: str, passed: str) -> float:
        enough = (each for each, one in curve.items() if getattr(one, edge) > getattr(other, passed))
        return most / next(enough, inf)

    interval = (times("low", "high"), times("high", "low")) if n >= FOLDS else (None, None)
    return Number(times("value", "value"), *interval, n, "times fewer pictures")


def trains_quickly(stored: Stored, faster: float, slow: float, close: float) -> Finding:
    at = places(stored)[0]
    record, training = at.record(*OURS), training_of(stored.profile, "zfnet")
    runs = {
        run[-1]["provenance"]["device"].partition(",")[0]: run for run in reversed(stored.runs("zfnet").values())
    }
    machine = record.provenance.device.partition(",")[0]  # without the number of threads
    other = machine if machine in runs else list(runs)[-1]
    # Others may have shared the machine: every epoch as long as those of the fastest quarter.
    whole = len(runs[other]) * float(np.quantile([line["epoch"]["seconds"] for line in runs[other]], 0.25))
    seconds = record.parameters["fit_seconds"]
    few = record.parameters["classes"] * (record.parameters["dimensions"] + 1)
    many = sum(training.spec(DATASETS[training.data].classes).parameters().values())
    lead = over_folds(at.tried(*OURS) - at.tried("fc7", "svm"))
    numbers = {
        "faster than the whole training": exact(whole / seconds, "times", record.n),
        "seconds of the fit alone": exact(seconds, "s", record.n),
        "fewer parameters": exact(many / few, "times"),
        "above a linear SVM": lead,
    }
    numbers |= {f"accuracy, {n} a class": over_folds(at.tried(*OURS, each=n), unit="%") for n in at.sizes}
    quick = whole >= faster * seconds
    note = f"Trained on {record.provenance.device}; features are computed once and not counted."
    if machine != other:
        quick = None
        note += f" The whole training ran on another machine, {other}; the test asks for the same."
    return Finding(verdict(every([quick, at_least(lead, -close)]), whole < slow * seconds), numbers, note)


def features_matter_more(stored: Stored, ratio: float) -> Finding:
    at = places(stored)[0]
    # Pixels and random weights would be features that nobody uses, and widen what features do.
    sources = ("conv5", "fc7", "hog")
    tried = [[at.tried(layer, classifier) for classifier in CLASSIFIERS] for layer in sources]
    n = min(len(one) for row in tried for one in row)
    table = np.array([[mean(one) for one in row] for row in tried])
    # The sum of squares about the mean is split into rows, columns, and what neither explains.
    rows, columns = (table.mean(axis, keepdims=True) - table.mean() for axis in (1, 0))
    parts = np.broadcast_arrays(rows, columns, table - table.mean() - rows - columns)
    by_features, alike, by_feature = (float(np.square(part).sum()) for part in parts)
    by_classifier = alike + by_feature  # whether it does the same to all features or not
    whole = by_features + by_classifier
    numbers = {
        "by features": exact(100 * by_features / whole, "% of the variance", n),
        "by classifier": exact(100 * by_classifier / whole, "% of the variance", n),
        "largest difference of the classifiers": exact(float(np.ptp(table, axis=1).max()), "points", n),
    }
    note = f"{', '.join(sources)}, each with SVM and softmax, on {at.data} with {at.most} a class."
    return Finding(verdict(by_features >= ratio * by_classifier if n >= FOLDS else None), numbers, note)


MATCHES, OWED = "pictures in training too", "accuracy owed to them at most"
INTERVAL = "half the interval of accuracy"


def matches(at: Subject) -> Iterator[Number]:
    """Count the pictures that the training data have too, and what accuracy over the folds can hang on them."""
    trained = training_of(at.profile, "zfnet").data
    found = {one.second: one for one in known_overlaps(trained, "train")}
    for second, one in found.items():
        matched, compared = len({pair.second for pair in one.pairs}), one.compared[1]
        yield counted(MATCHES, 1000 * matched / compared, compared, "per 1000", pictures=second)
    for place in places(at):
        try:
            data, shared = undivided(place.data), []
        except MissingDataError as error:
            raise NotRun(str(error)) from error
        for part in getattr(data, "parts", [data]):
            if (title := title_of(part)) not in found:
                raise NotRun(f"`zfnet overlap {trained} {part.name}`; minutes")
            shared.append(np.isin(np.arange(len(part.names)), found[title].rows_in(part)))
        # Between all of them named rightly and all wrongly, as if the network knew or mistook them by heart.
        right = np.where(np.concatenate(shared), data.labels, -1)
        tests = [fold.test for fold in protocol_folds(data, count=FOLDS)]
        owed = [per_class_accuracy(data.labels[test], right[test]) for test in tests]
        yield measured(OWED, owed, "points", pictures=place.data)
        accuracy = over_folds(place.tried(*OURS))
        yield counted(INTERVAL, accuracy.high - accuracy.value, FOLDS, "points", pictures=place.data)


def pascal_less_well(stored: Stored, **_: float) -> Finding:
    found = several(stored)
    one, many = (found.one(GAIN, by=BY_FEATURES, shown=shown) for shown in (ONE, SEVERAL))
    lost = beyond(one, many)
    numbers = {"gain on one object less that on several": lost}
    numbers |= {f"features above hog, {ONE}": one, f"features above hog, {SEVERAL}": many}
    return Finding(verdict(above(lost, 0)), numbers)


def printed_pascal(margin: float, classes: int) -> tuple[bool, str]:
    """Tell how far the mean of Table 5 lies below [27] and [21], and the classes in which [27] is beaten."""
    table = contents()["tables"]["table_5"]
    printed = next(row["values"] for row in table["summary_rows"] if row["label"] == "Mean")
    leading, concurrent = (round(printed[other] - printed["ours"], 1) for other in ("ref_27", "ref_21"))
    beaten = [row["label"] for row in table["rows"] if row["values"]["ours"] > row["values"]["ref_27"]]
    agrees = leading == margin and len(beaten) == classes
    return agrees, f"{leading} below [27], {concurrent} below [21]; {', '.join(beaten)}"


def several(stored: Stored) -> Stored:
    """Return what Table 5 stored of pictures of one and of several objects."""
    path = several_file(stored.profile).relative_to(results_root(stored.profile))
    again = f"`zfnet run table5 --profile {stored.profile} --live`; some ten minutes"
    return Stored(stored.profile, str(path), again)


def several_losses(stored: Stored) -> Finding:
    found, numbers = several(stored), {}
    classes = found.record(GAIN, by=BY_LOSS, shown=SEVERAL).parameters["classes"]
    for shown in (SEVERAL, ONE):
        with suppress(NotRun):  # scenes of `shapes` always show several
            numbers[shown] = found.one(GAIN, by=BY_LOSS, shown=shown)
    note = f"Mean over {', '.join(classes)}: classes that enough pictures of several objects show."
    gain, control, more = numbers[SEVERAL], numbers.get(ONE), None
    if control:
        lead = numbers["gain on several objects less that on one"] = beyond(gain, control)
        more = above(lead, 0)
    return Finding(verdict(every([above(gain, 0), more]), above(gain, 0) is False), numbers, note)


def more_with_layer(stored: Stored) -> Finding:
    at = places(stored)[0]

    def steps(source: str = "", more: str = "") -> Iterator[tuple[str, Number]]:
        """Yield what each layer from 2 to 5 adds to the one beneath for an SVM."""
        for a, b in pairwise(LAYERS[:5]):
            added = at.tried(b, "svm", source=source) - at.tried(a, "svm", source=source)
            yield f"step {a[-1]} to {b[-1]}{more}", over_folds(added)

    own = {layer: at.tried(layer, "svm") for layer in LAYERS}
    means, trained = {layer: mean(one) for layer, one in own.items()}, dict(steps())
    numbers = {f"SVM ({layer[-1]})": over_folds(one, unit="%") for layer, one in own.items()} | trained
    rho = rank_correlation(np.arange(5), np.array(list(means.values())[:5]))
    numbers["Spearman with the layer, 1 to 5"] = exact(rho, "rho")
    note, control = f"The peak is layer {max(means, key=means.get)[-1]}.", None
    try:
        untrained = dict(steps(at.untrained, ", untrained"))
        numbers |= untrained
        control = no(every(above(step, 0) for step in untrained.values()))
    except NotRun as unrun:
        note += f" Not run, the untrained network: {unrun}."
    holds = every([*(above(step, 0) for step in trained.values()), control])
    fails = some(below(step, 0) for step in trained.values())
    with suppress(NotRun):  # what has learnt more, and decides only whether a fall is more than ours
        numbers |= (downloaded := dict(steps("alexnet-imagenet", ", alexnet-imagenet")))
        fails = every([fails, some(below(step, 0) for step in downloaded.values())])
    return Finding(verdict(holds, fails), numbers, note)


def all_layers_best(stored: Stored) -> Finding:
    numbers = {}
    for at in places(stored):
        for name in CLASSIFIERS:
            numbers[f"{at.data}, {name}"] = over_folds(at.tried("fc7", name) - at.tried("conv5", name))
    enough = len(numbers) > len(CLASSIFIERS) and all(number.n >= FOLDS for number in numbers.values())
    best = every(above(number, 0) for number in numbers.values()) is True
    return Finding(verdict(best if enough else None), numbers)

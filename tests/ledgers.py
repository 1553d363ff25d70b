"""Records as trainings, transfer and Table 5 leave them, with numbers chosen by hand."""

from dataclasses import replace
from statistics import mean, stdev

from planted import record

from zfnet_lib.files import results_root
from zfnet_lib.paper import records
from zfnet_lib.paper.table3_4_6 import ACCURACY, SOURCES, Source

OWN, UNTRAINED = "zfnet-tiny", "zfnet-tiny, untrained"
CALTECH, NOVEL = "caltech-101", "mini-imagenet-novel"
JITTER = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Of the accuracy from fold to fold: a standard error of 0.07 points."""


def tried(source, data, accuracies, device=""):
    """Write a source's trials: accuracy in percent by layer, classifier and training pictures a class."""
    made = records.Stopwatch().provenance()
    made = replace(made, device=device or made.device)
    found = []
    for n, ((layer, classifier, each), value) in enumerate(accuracies.items()):
        values = [value + JITTER[(i + n) % 5] for i in range(5)]
        place = {"layer": layer, "classifier": classifier, "each": each, "classes": 101, "dimensions": 4096}
        place |= {"fit_seconds": 40.0, "folds": values}
        facts = {"n": 5, "spread": stdev(values), "parameters": place, "spec": source}
        found.append(records.Record("transfer", ACCURACY, mean(values), "%", made, **facts))
    records.store(results_root("tiny") / "transfer" / Source(source, data, ()).record, found)


def scratch(data, each, accuracies):
    """Write trainings from scratch, one a fold."""
    for fold, value in enumerate(accuracies):
        name = f"zfnet-epochs-160-{data}-{each}-a-class-tiny-seed{fold}"
        error = record("test mean per-class error", 100 - value, "%", parameters={"views": 1})
        ten = record("test mean per-class error", 0.0, "%", parameters={"views": 10})
        records.store(results_root("tiny") / "errors" / f"{name}.jsonl", [ten, error])


def curve(accuracies):
    """Write Fig. 7: the curve of the pre-trained network, and the controls with 60 pictures a class."""
    each = next(one for one in SOURCES["tiny"] if (one.name, one.data) == (OWN, NOVEL)).trials
    sizes = sorted({trial.each for trial in each})
    tried(OWN, NOVEL, {("fc7", "softmax", n): accuracies(n) for n in sizes})
    for name, layer, value in (("hog", "hog", 30.0), ("pixels", "pixels", 10.0), (UNTRAINED, "conv2", 15.0)):
        tried(name, NOVEL, {(layer, "svm", 60): value})
    scratch(NOVEL, 60, [22.0 + shift for shift in JITTER])

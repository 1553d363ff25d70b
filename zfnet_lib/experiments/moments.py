"""Figure 4: how features develop in training, from the snapshots that one training left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Dataset
from ..evolution import LayerEvolution, Snapshots, Strand, answers, cka, evolve, probe, summaries
from ..figures import projection_image, robust_maximum
from ..files import results_root
from ..network import ConvNet
from ..records import Record, Stopwatch, store
from ..specs import MINI
from ..tables import Note
from ..trainings import excluded_rows, training_data
from .development import ALIGNMENT, KINDS, LARGEST, NEARNESS, NUMBERS, PROBE, Development, Feature
from .setting import DATA, Source, profile_of, training_of
from .spot import developing


@dataclass(frozen=True)
class Scale:
    """How many pictures Fig. 4 rests on, drawn with seed 0.

    Attributes:
        searched: Training pictures in which the strongest units are looked for.
        learnt: Training pictures from which the linear probes learn.
        judged: Validation pictures on which the probes are judged.
        answered: Validation pictures on whose answers settling is judged.
    """

    searched: int
    learnt: int
    judged: int
    answered: int = 512


SCALES = {
    "smoke": Scale(1024, 1024, 512),
    "tiny": Scale(5_000, 10_000, 5_000),
    "paper": Scale(50_000, 50_000, 10_000),
}


def fig4(profile: str, maps: int = 6, seed: int = 0, live: bool = False) -> Development:
    """Follow the features of the network of Fig. 3 through its training (Fig. 4).

    `smoke` trains on the spot and stores the numbers. The other profiles return what is stored; with `live` they
    compute it from the snapshots that the training left on this machine, and store it.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        maps: Maps shown of each layer, drawn with `seed` among those that are active in the end.
        seed: Of the draw.
        live: Compute even what is stored.

    Raises:
        ZfnetError: Unknown profile, a stored result that is damaged, or with `live` snapshots or data that are
            not here.
    """
    parameters = {"maps": maps, "seed": seed}
    folder = results_root(profile_of(profile).name) / "evolution"
    if profile == "smoke":
        found = _followed(profile, developing(MINI.name), f"{MINI.name}, trained on the spot", None, **parameters)
        store(folder / NUMBERS, found.numbers)
        return found
    training = training_of(profile, "zfnet")
    if not live:
        return Development.load(folder, parameters) or _not_run(profile, parameters)
    searches = training.folder / "searches"
    found = _followed(profile, Snapshots(training.folder), training.name, searches, **parameters)
    found.save(folder, parameters)
    return found


def _not_run(profile: str, parameters: dict[str, int]) -> Development:
    settings = "".join(f" -p {name}={value}" for name, value in parameters.items())
    training = f"`{training_of(profile, 'zfnet').command}`"
    computing = f"`zfnet run fig4 --profile {profile} --live{settings}`"
    return Development((), {}, [], Note(f"Not run. {training} leaves the snapshots, {computing} looks at them."))


def _followed(
    profile: str, nets: Mapping[int, ConvNet], title: str, searches: Path | None, maps: int, seed: int
) -> Development:
    """Compute all of Fig. 4 from one network at several moments."""
    watch, scale = Stopwatch(), SCALES[profile]
    data, held_out = (training_data(DATA[profile], split) for split in ("train", "val"))
    kept, rest = np.setdiff1d(np.arange(len(data)), excluded_rows(data)), np.arange(len(held_out))
    searched, learnt, judged = _drawn(kept, scale.searched), _drawn(kept, scale.learnt), _drawn(rest, scale.judged)
    bare = {epoch: net.features() for epoch, net in nets.items()}
    layers = evolve(list(bare.values()), data, rows=searched, maps=maps, seed=seed, folder=searches)
    values = [
        *_settling(layers, bare, held_out, judged[: scale.answered]),
        *_probes(nets, (data, learnt), (held_out, judged)),
        *_jumps(layers),
    ]
    pictures = (
        f"{len(searched):,} of {data.name} {data.split} ({data.fingerprint}); probes learn from {len(learnt):,} of "
        f"the same and are judged on {len(judged):,} of {held_out.name} {held_out.split} ({held_out.fingerprint})"
    )
    source = Source(title, pictures, watch.provenance(seed))
    facts = {"provenance": source.provenance, "spec": title, "data": pictures}
    return Development(
        list(nets),
        {layer: [_feature(strand, data.names) for strand in found.strands] for layer, found in layers.items()},
        [Record("evolution", **value, **facts) for value in values],
        source,
    )


def _drawn(rows: np.ndarray, n: int) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(rows)[:n])


def _feature(strand: Strand, names: Sequence[str]) -> Feature:
    pixels = [projection.numpy() for projection in strand.projections]
    return Feature(
        strand.map,
        np.stack([projection_image(each) for each in pixels]),
        [robust_maximum(each) for each in pixels],
        strand.scores,
        [names[unit.image] for unit in strand.units],
        [(unit.row, unit.column) for unit in strand.units],
    )


def _settling(
    layers: dict[str, LayerEvolution], nets: Mapping[int, ConvNet], held_out: Dataset, rows: np.ndarray
) -> Iterator[dict[str, Any]]:
    given = {epoch: answers(net, held_out, rows) for epoch, net in nets.items()}
    last = given[max(given)]
    for layer, found in layers.items():
        maps = int(np.isfinite(found.nearness[-1]).sum())
        for (epoch, each), near in zip(given.items(), found.settled, strict=True):
            place = {"layer": layer, "epoch": epoch}
            yield _value(ALIGNMENT, cka(each[layer], last[layer]), "CKA", len(rows), place)
            yield _value(NEARNESS, float(near), "cosine", maps, place)


def _probes(
    nets: Mapping[int, ConvNet], learnt: tuple[Dataset, np.ndarray], judged: tuple[Dataset, np.ndarray]
) -> Iterator[dict[str, Any]]:
    labels, expected = (data.labels[rows] for data, rows in (learnt, judged))
    for epoch, net in nets.items():
        features, held_out = summaries(net, *learnt), summaries(net, *judged)
        for layer in features:
            accuracy = probe(features[layer].numpy(), labels, held_out[layer].numpy(), expected)
            yield _value(PROBE, accuracy, "%", len(expected), {"layer": layer, "epoch": epoch})


def _jumps(layers: dict[str, LayerEvolution]) -> Iterator[dict[str, Any]]:
    for layer, found in layers.items():
        steps = int(np.isfinite(found.likeness).sum())
        for number, kind in enumerate(KINDS):
            place = {"layer": layer, "kind": kind}
            yield _value("share of steps", found.share(number), "%", steps, place)
            if found.share(number):
                yield _value("median cosine", found.typical_likeness(number), "cosine", steps, place)
        yield _value(LARGEST, found.jumps_among_largest, "%", steps, {"layer": layer})


def _value(quantity: str, value: float, unit: str, n: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says beside where it comes from."""
    return {"quantity": quantity, "value": value, "unit": unit, "n": n, "parameters": parameters}

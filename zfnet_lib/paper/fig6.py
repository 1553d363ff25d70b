"""Fig. 6: what the strongest map, the class and the answer hang on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from ..architecture import MINI, Unit
from ..datasets import open_dataset
from ..deconv import deconv_units
from ..files import results_root
from ..images import FigureError, centre_square, projection_image, require_picture
from ..network import ConvNet
from ..occlusion import STRIDE, Drop, Occlusion, largest_drop, occlude
from ..strongest import fitted, rows_first, strongest
from ..weights import CheckpointError, known_classes
from .plots import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    WIDTH,
    YELLOW,
    Figure,
    Sheet,
)
from .records import Record, Stopwatch, read, store
from .setting import Source, class_names, describe_pictures, opened, profile_of, source_of
from .tables import Note, Table
from .trainings import trained

INSIDE, CHANCE = "largest drop on the object", "places on the object"

EVERY = 3
"""Candidates are judged at one place of the square in so many, down and across; rows show them all."""

OTHERS = 3
"""Projections of the same map from other pictures."""

KNOWING = "alexnet-caltech-101"
"""A whole network with ImageNet's features, for photographs of objects that it knows."""

OBJECTS = {
    "coffee": ("cup",),
    "cat": ("cougar face", "wild cat"),
    "astronaut": ("Faces", "Faces easy"),
    "motorcycle": ("Motorbikes",),
}
"""Photographs that show an object of Caltech-101, or its nearest relative, and what it is called there."""

SURE = 0.3
"""Probability of the class at some place of the square from which on its losses are worth speaking of."""


@dataclass(frozen=True)
class Occlusions:
    """Fig. 6: its rows, and what they were computed from."""

    rows: list[Row]
    title: str
    source: Source


@dataclass(frozen=True)
class _Seen:
    """One picture of the data set, its input [3, H, W], and what hiding parts of it does."""

    image: int
    x: Tensor
    hidden: Occlusion

    @property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """How far activity and probability fall at each place of the square."""
        activity, probability = self.hidden.activity, self.hidden.probability
        return (activity.max() - activity).numpy(), (probability.max() - probability).numpy()


def measure(
    profile: str,
    pictures: str = "",
    network: str = "",
    candidates: int = 32,
    size: int = 0,
    stride: int = 0,
    seed: int = 0,
) -> Occlusions:
    """Hide parts of pictures and choose three by a rule each (Fig. 6).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        candidates: Pictures among which the rows are chosen; those that a network gets wrong are left out
            where labels are known.
        size, stride: Of the square in pixels; 0 takes the paper's shares of the picture.
        seed: Of the choice of candidates.
    """
    at = opened(profile, pictures, network, whole=True, dense=True)
    net, dataset, names = at.net, at.dataset, class_names(profile, network)
    order = np.random.default_rng(seed).permutation(len(dataset))[:candidates]
    labelled = names == dataset.classes and not dataset.multilabel
    seen = []
    side, step = size or None, stride or max(1, round(STRIDE * net.preparation.crop))
    for image in order.tolist():
        x = net.prepare([dataset[image].picture])[0]
        hidden = occlude(net, x, size=side, stride=EVERY * step)
        if not labelled or hidden.target == dataset.labels[image]:
            seen.append(_Seen(image, x, hidden))
    chosen = {
        story: replace(one, hidden=occlude(net, one.x, size=side, stride=step))
        for story, one in _chosen(seen).items()
    }
    names = names or tuple(f"class {n}" for n in range(net.spec.classes))
    last, variety = net.spec.convs[-1].name, hasattr(dataset, "windows")
    hits = strongest(net, dataset, OTHERS + 1, [last], variety=variety)[last]
    rows = [_row(net, dataset, one, story, hits, names) for story, one in chosen.items()]
    return Occlusions(rows, f"{at.name} on {dataset.name}", at.source(seed))


def fig6_objects(profile: str, size: int = 0, stride: int = 0, seed: int = 0) -> Occlusions | Note:
    """Hide parts of photographs that show an object of Caltech-101, for a network that knows these (Fig. 6).

    Of each photograph that crop of which the network is surest, and the class that `OBJECTS` names for it.

    Args:
        profile: `tiny` or `paper`; in `smoke` there is nothing to show.
        size, stride: Of the square in pixels; 0 takes the paper's shares of the picture.
        seed: Of nothing that is drawn here; part of the record.

    Returns:
        A row a photograph; or a sentence that says why there is none.
    """
    if profile_of(profile).name == "smoke":
        return Note("This profile takes no weights that have to be fetched: see the profile `tiny`.")
    try:
        at = opened(profile, "photos", KNOWING, whole=True)
    except CheckpointError as error:
        return Note(f"Not run: {error}")
    last = at.net.spec.convs[-1].name
    hits = strongest(at.net, at.dataset, OTHERS + 1, [last], variety=True)[last]
    names, rows = known_classes(KNOWING), []
    for photograph, wanted in OBJECTS.items():
        image, target = _surest(at.net, at.dataset, photograph, [names.index(name) for name in wanted])
        x = at.net.prepare([at.dataset[image].picture])[0]
        one = _Seen(image, x, occlude(at.net, x, target, size=size or None, stride=stride or None))
        rows.append(_row(at.net, at.dataset, one, "The surest crop", hits, names))
    return Occlusions(rows, f"{at.name} on photographs", at.source(seed))


def _surest(net: ConvNet, dataset, photograph: str, wanted: Sequence[int]) -> tuple[int, int]:
    """Return the crop of a photograph in which one of some classes is most probable, and that class."""
    crops = [i for i, label in enumerate(dataset.labels) if dataset.classes[label] == photograph]
    parts = [crops[start : start + 32] for start in range(0, len(crops), 32)]
    with torch.inference_mode():
        found = torch.cat([net(net.prepare([dataset[i].picture for i in part])).softmax(1) for part in parts])
    crop, place = divmod(int(found[:, wanted].argmax()), len(wanted))
    return crops[crop], wanted[place]


def looking(profile: str, live: bool = False, pictures: int = 100, share: float = 1 / 7, seed: int = 0) -> Table:
    """Count how often a class is lost most where the square touches its object, on `shapes` (section 4.2).

    Pictures of one object, and scenes of several in which the network names one of them: there the square must
    touch that one, and not another.

    Args:
        profile: `smoke` computes it, the others show what is stored, or the command that computes it.
        live: Compute and store it.
        pictures: Of each kind, drawn by seed; those that the network gets wrong are left out.
        share: Side of the square, of the picture's.
        seed: Of the draw.
    """
    path = results_root(profile_of(profile).name) / "looking" / "shapes.jsonl"
    if live or profile == "smoke":
        found = list(_looking_records(pictures, share, seed))
        store(path, found)
    elif not (found := read(path)):
        return Table({"command": "Not run"}, [{"command": f"`zfnet run fig6 --profile {profile} --live`"}])
    rows: dict[str, dict] = {}
    for record in found:
        kind = record.parameters["pictures"]
        rows.setdefault(kind, {"kind": kind, "n": record.n})[record.quantity] = record.value
    columns = {"kind": "Pictures", "n": "Right answers", INSIDE: "Largest drop on the object, %"}
    return Table(columns | {CHANCE: "Places on the object, %"}, list(rows.values()), str(source_of(found)))


def _looking_records(pictures: int, share: float, seed: int) -> Iterator[Record]:
    watch, net = Stopwatch(), trained(MINI.name).net
    for name, title in (("shapes", "one object"), ("shapes-scenes", "several objects")):
        dataset = open_dataset(name, "val")
        drawn = np.random.default_rng(seed).permutation(len(dataset))[:pictures].tolist()
        drops = [drop for image in drawn if (drop := _drop(net, dataset, image, share))]
        record = partial(Record, "looking", unit="%", n=len(drops), spec=MINI.name, data=describe_pictures(dataset))
        record = partial(record, parameters={"pictures": title, "square": share}, provenance=watch.provenance(seed))
        yield record(INSIDE, 100 * mean(drop.inside for drop in drops))
        yield record(CHANCE, 100 * mean(drop.share for drop in drops))


def _drop(net: ConvNet, dataset, image: int, share: float) -> Drop | None:
    """Return where the network's answer loses most; None where it names no object of the picture."""
    preparation = net.preparation
    x = net.prepare([dataset[image].picture])
    answer = int(net.trace(x).logits.argmax())
    masks = {thing.label: thing.mask for thing in dataset.objects(image)}
    if answer not in masks:
        return None
    square = replace(dataset[image], mask=masks[answer]).squared(preparation.short_side)
    hidden = occlude(net, x[0], answer, size=round(share * preparation.crop))
    mask = centre_square(square.mask, preparation.crop)
    return largest_drop(hidden.probability, mask, hidden.size, hidden.stride)


def _chosen(seen: Sequence[_Seen]) -> dict[str, _Seen]:
    """Return a picture for each story, none twice; without a classifier those whose activity falls most.

    Pictures of whose class the network is not sure are left out, unless too few remain.
    """
    classified = seen[0].hidden.probability is not None
    rules = STORIES if classified else WITHOUT_CLASSIFIER
    sure = [one for one in seen if classified and one.hidden.probability.max() >= SURE]
    left, chosen = sure if len(sure) >= len(rules) else list(seen), {}
    for story, rule in rules.items():
        if left:
            chosen[story] = max(left, key=rule)
            left.remove(chosen[story])
    return chosen


def _another_object(one: _Seen) -> float:
    """The largest probability lost at a place where another class becomes the most probable."""
    other = (one.hidden.label != one.hidden.target).numpy()
    return float(np.where(other, one.losses[1], 0).max())


def _not_the_class(one: _Seen) -> float:
    """How little the losses of activity and of probability agree, where both are worth speaking of."""
    activity, probability = one.losses
    if probability.max() < 0.2 or activity.max() < 0.2 * float(one.hidden.activity.max()):
        return -2.0
    return -float(np.corrcoef(activity.ravel(), probability.ravel())[0, 1])


def _several_objects(one: _Seen) -> float:
    """How many classes are the most probable at some place; of equal ones where the probability falls more."""
    return len(one.hidden.label.unique()) + float(one.losses[1].max())


def _activity_falls(one: _Seen) -> float:
    return float(1 - one.hidden.activity.min() / one.hidden.activity.max().clamp(min=1e-12))


STORIES: dict[str, Callable[[_Seen], float]] = {
    "Another object when the main one is covered": _another_object,
    "The strongest map is not what the class hangs on": _not_the_class,
    "Several objects": _several_objects,
}
"""The paper's three, each with what is largest in the picture that is chosen."""

WITHOUT_CLASSIFIER = {
    "The activity that falls most": _activity_falls,
    "The second most": _activity_falls,
    "The third most": _activity_falls,
}


def _row(net: ConvNet, dataset, one: _Seen, story: str, hits, names: Sequence[str]) -> Row:
    hidden, layer = one.hidden, net.spec.convs[-1].name
    picture = net.preparation.visible(one.x[None])[0]
    with torch.no_grad():
        maps = net.features().trace(one.x[None])[layer].maps[0, hidden.map]
    row, column = divmod(int(maps.argmax()), maps.shape[1])
    others = [unit for unit in hits.units(hidden.map) if unit.image != one.image][:OTHERS]
    x = torch.cat([one.x[None], *(net.prepare([dataset[unit.image].picture]) for unit in others)])
    units = [Unit(0, layer, hidden.map, row, column)]
    units += [unit._replace(image=place) for place, unit in enumerate(others, 1)]
    shown = deconv_units(net, x, units)
    pairs = [fitted(*pair, x.shape[-1]) for pair in zip(shown.projections, shown.boxes, strict=True)]
    lost = one.losses[0] if hidden.probability is None else one.losses[1]
    top, left = (int(n) * hidden.stride for n in np.unravel_index(lost.argmax(), lost.shape))
    name = f"{dataset.sample(one.image).name}" + ("" if hidden.target is None else f", {names[hidden.target]}")
    return Row(
        f"{story}: {name}; {layer}, map {hidden.map}",
        rows_first(picture),
        (top, left, hidden.size),
        hidden.activity.numpy(),
        [pixels.numpy() for pixels, _ in pairs],
        tuple(pairs[0][1]),
        None if hidden.probability is None else hidden.probability.numpy(),
        None if hidden.label is None else hidden.label.numpy(),
        names,
        hidden.target,
    )


# Fig. 6: what the network sees when a grey square hides a part of the picture.

PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
"""Colours of the labels that are most often the most probable; further labels are pale."""

MARGIN, GAP, LABELS = 0.05, 0.1, 0.62
"""Inches around the panels, between them, and below a row for names and ranges."""
COLUMNS = ("picture and square", "activity of the map", "its projections", "probability", "most probable")
SIDE = (WIDTH - 2 * MARGIN - (len(COLUMNS) - 1) * GAP) / len(COLUMNS)


@dataclass(frozen=True)
class Row:
    """One picture of Fig. 6.

    Attributes:
        title: What the picture is and why it was chosen.
        picture: uint8 [H, W, 3], as the network sees it.
        square: Top, left and side of the occluder that is drawn, in pixels.
        activity: [rows, columns], of the map for each place of the square.
        projections: Of the map's strongest unit in this picture, then in others; [3, s, s] each.
        box: The field of the first of them in the picture: top, left, bottom, right.
        probability: Of the class, or None without a classifier.
        label: int [rows, columns]: the most probable class, or None.
        classes: Names by class number.
        target: The class whose probability is shown, or None.
    """

    title: str
    picture: np.ndarray
    square: tuple[int, int, int]
    activity: np.ndarray
    projections: Sequence[np.ndarray]
    box: tuple[int, int, int, int]
    probability: np.ndarray | None
    label: np.ndarray | None
    classes: Sequence[str]
    target: int | None


def occlusion(rows: Sequence[Row], title: str) -> Figure:
    """Draw one row a picture: the square, activity, projections, probability and most probable label (Fig. 6).

    Each place of the square colours one cell. Activity runs from 0 to its largest value, probability from 0 to 1.

    Raises:
        FigureError: No rows, or arrays of other shapes.
    """
    if not rows:
        raise FigureError("Fig. 6 shows at least one picture; given none")
    step = 0.24 + SIDE + LABELS
    sheet = Sheet(Sheet.HEAD + 0.22 + len(rows) * step, title)
    for place, words in enumerate(COLUMNS):
        sheet.text(_x(place) + SIDE / 2, Sheet.HEAD + 0.08, words, NORMAL, colour=GREY)
    for number, row in enumerate(rows):
        y = Sheet.HEAD + 0.22 + number * step
        sheet.text(MARGIN, y + 0.1, row.title, NORMAL, across="left")
        _row_of_fig6(sheet, y + 0.24, row)
    return sheet.figure


def _x(place: int) -> float:
    return MARGIN + place * (SIDE + GAP)


def _row_of_fig6(sheet: Sheet, y: float, row: Row) -> None:
    picture = require_picture(row.picture)
    _picture(sheet, _x(0), y, picture, row.square)
    _map(sheet, _x(1), y, row.activity, row.activity.max(), f"0 to {row.activity.max():.3g}")
    _projections(sheet, _x(2), y, row, len(picture))
    if row.probability is None:
        for place in (3, 4):
            sheet.box(_x(place), y, SIDE, SIDE, fill=PALE, edge="none")
            sheet.text(_x(place) + SIDE / 2, y + SIDE / 2, "no classifier")
        return
    _map(sheet, _x(3), y, row.probability, 1.0, f"of {row.classes[row.target]}, 0 to 1")
    _labels(sheet, _x(4), y, row.label, row.classes)


def _picture(sheet: Sheet, x: float, y: float, picture: np.ndarray, square: tuple[int, int, int]) -> None:
    top, left, side = square
    covered = picture.copy()
    covered[top : top + side, left : left + side] = 128
    sheet.picture(covered, x, y, SIDE, SIDE)
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, f"square of {side} pixels")


def _map(sheet: Sheet, x: float, y: float, values: np.ndarray, top: float, words: str) -> None:
    sheet.picture(np.asarray(values, np.float64), x, y, SIDE, SIDE, top=max(float(top), 1e-12))
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, words)


def _projections(sheet: Sheet, x: float, y: float, row: Row, pixels: int) -> None:
    """Draw the projections two by two, the one from this picture first and framed, and frame its field there."""
    small = (SIDE - 0.04) / 2
    for place, values in enumerate(row.projections[:4]):
        down, across = divmod(place, 2)
        corner = x + across * (small + 0.04), y + down * (small + 0.04)
        sheet.picture(projection_image(values), *corner, small, small)
        if not place:
            sheet.box(*corner, small, small, edge=VERMILION, line=1.4, level=3)
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, "here (framed), elsewhere")
    top, left, bottom, right = (min(max(n, 0), pixels) * SIDE / pixels for n in row.box)
    for edge, line, level in (("white", 2.4, 3), (VERMILION, 1.2, 4)):
        sheet.box(_x(0) + left, y + top, right - left, bottom - top, edge=edge, line=line, level=level)


def _labels(sheet: Sheet, x: float, y: float, label: np.ndarray, classes: Sequence[str]) -> None:
    """Colour each place by its most probable class, and name the classes that occur, the most frequent first."""
    numbers, counts = np.unique(label, return_counts=True)
    order = numbers[np.argsort(-counts, kind="stable")]
    colours = dict(zip(order.tolist(), PALETTE, strict=False))
    image = np.full((*label.shape, 3), _rgb(PALE), np.uint8)
    for number, colour in colours.items():
        image[label == number] = _rgb(colour)
    image = np.kron(image, np.ones((8, 8, 1), np.uint8))
    sheet.picture(image, x, y, SIDE, SIDE)
    for line, (number, colour) in enumerate(list(colours.items())[:4]):
        down = y + SIDE + 0.1 + 0.13 * line
        sheet.box(x, down - 0.045, 0.09, 0.09, fill=colour, edge="none")
        sheet.text(x + 0.14, down, _short(classes[number]), SMALL, across="left")


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))

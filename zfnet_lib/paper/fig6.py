"""Fig. 6: what the strongest map, the class and the answer depend on while a square hides part of the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from PIL.ImageColor import getrgb
from torch import Tensor

from ..architecture import MINI, Box, Unit
from ..datasets import Dataset, open_dataset
from ..deconv import deconv_units, strongest_unit
from ..files import ZfnetError, results_root
from ..images import FigureError, centre_square, projection_image, read_picture
from ..network import ConvNet, Network
from ..occlusion import STRIDE, Occlusion, largest_drop, occlude
from ..strongest import fitted, rows_first, strongest
from ..weights import CheckpointError, known_classes
from . import setting
from .plots import GREY, MARGIN, NORMAL, PALE, PALETTE, SMALL, WIDTH, Figure, Sheet
from .records import Record, Sentence, Stopwatch, Table, read, store
from .setting import KNOWING, Setting, Source, opened, profile_of, progress

OBJECTS = {
    "coffee": ("cup", "espresso"),
    "cat": ("cougar face", "wild cat", "Persian cat", "Egyptian cat", "tabby"),
    "astronaut": ("Faces", "Faces easy"),
    "motorcycle": ("Motorbikes",),
}
"""Photographs that show an object of Caltech-101 or Tiny-ImageNet, or its nearest relative, and its names there."""


class Row(NamedTuple):
    """One picture of Fig. 6."""

    title: str
    x: Tensor  # prepared [3, H, W]
    picture: np.ndarray  # uint8 [H, W, 3], as the network sees it, with the square where most is lost
    seen: Occlusion
    projections: Sequence[np.ndarray]  # of the map's strongest unit here, then in other pictures; [3, s, s]
    box: Box | None  # the field of the first of them
    classes: Sequence[str]


class Occlusions(NamedTuple):
    """Fig. 6: its rows, and what they were computed from."""

    rows: list[Row]
    title: str
    net: ConvNet
    source: Source


def measure(profile, pictures="", network="", candidates=32, size=0, stride=0, seed=0) -> Occlusions:
    """Occlude pictures drawn by seed that a network names rightly, and choose three by a rule each (Fig. 6).

    Without a name the network is the one that knows the `OBJECTS`, where it is at hand, else the profile's.
    """
    network = network or setting.knowing(profile, pictures)
    at = opened(profile, pictures, network, whole=True)
    net, dataset, names = at.net, at.dataset, setting.class_names(profile, network)
    step = stride or max(1, round(STRIDE * net.preparation.crop))
    seen: dict[int, Occlusion] = {}
    for image in np.random.default_rng(seed).permutation(len(dataset)).tolist():
        if len(seen) >= candidates:
            break
        x, right = net.prepare([dataset[image].picture]), rightly(dataset, image, names)
        if right is None or (right and int(net(x).argmax()) in right):
            # Candidates are judged at a ninth of the places.
            seen[image] = occlude(net, x, size=size or None, stride=3 * step)
    if not seen:
        raise FigureError(f"{at.name} names no picture of {dataset.name} rightly; choose other pictures")
    chosen = [(story, image, None) for story, image in stories(seen).items()]
    names = names or tuple(f"class {n}" for n in range(net.spec.classes))
    return _occluded(at, f"{at.name} on {dataset.name}", chosen, names, size, step, seed)


def rightly(dataset: Dataset, image: int, names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the classes of a network that are a right answer to a picture, or None where nobody can tell."""
    if dataset.multilabel or not names:
        return None
    if names == dataset.classes:
        return (int(dataset.labels[image]),)
    if dataset.name != "photos":
        return None
    wanted = OBJECTS.get(in_words(dataset, image), ())
    return tuple(number for number, name in enumerate(names) if name in wanted)


def in_words(dataset: Dataset, image: int) -> str:
    """Return what a picture shows, in words."""
    present = np.flatnonzero(dataset.labels[image] == 1) if dataset.multilabel else [dataset.labels[image]]
    return ", ".join(dataset.classes[label] for label in present)


def measure_objects(profile, size=0, stride=0, seed=0) -> Occlusions | Sentence:
    """Occlude the surest crops of photographs for a network that knows their `OBJECTS`, or say why not."""
    if profile_of(profile).name == "smoke":
        return Sentence("This profile takes no weights that have to be fetched: see the profile `tiny`.")
    try:
        at = opened(profile, "photos", KNOWING, whole=True)
    except CheckpointError as error:
        return Sentence(f"Not run: {error}")
    names = known_classes(KNOWING)
    chosen = []
    for photograph, wanted in OBJECTS.items():
        labels = [names.index(name) for name in wanted if name in names]
        chosen.append(("The surest crop", *surest_crop(at.net, at.dataset, photograph, labels)))
    return _occluded(at, f"{at.name} on photographs", chosen, names, size, stride, seed)


def surest_crop(net: ConvNet, dataset, photograph: str, wanted: Sequence[int]) -> tuple[int, int]:
    """Return the crop of a photograph in which one of some classes is most probable, and that class."""
    crops = [i for i, label in enumerate(dataset.labels) if dataset.classes[label] == photograph]
    parts = [crops[start : start + 32] for start in range(0, len(crops), 32)]
    with torch.inference_mode():
        found = torch.cat([net(net.prepare([dataset[i].picture for i in part])).softmax(1) for part in parts])
    crop, place = divmod(int(found[:, wanted].argmax()), len(wanted))
    return crops[crop], wanted[place]


def _occluded(at: Setting, title: str, chosen: Sequence[tuple], names, size, stride, seed) -> Occlusions:
    """Occlude pictures (story, image, class), and project the watched map's strongest unit here and elsewhere."""
    net, rows, layer = at.net, [], at.net.spec.convs[-1].name
    how = {"variety": hasattr(at.dataset, "windows"), "progress": True}
    top = strongest(net, at.dataset, min(4, len(at.dataset)), [layer], **how)[layer]
    for story, image, target in progress(chosen, "occlusions"):
        x = net.prepare([at.dataset[image].picture])
        seen = occlude(net, x, target, size=size or None, stride=stride or None)
        others = [unit for unit in top.units(seen.map) if unit.image != image][:3]
        x = torch.cat([x, *(net.prepare([at.dataset[unit.image].picture]) for unit in others)])
        with torch.no_grad():
            maps = net.features().trace(x[:1])[layer].maps[0]
        units = [Unit(0, layer, *strongest_unit(maps, seen.map))]
        units += [unit._replace(image=place) for place, unit in enumerate(others, 1)]
        pairs = zip(*deconv_units(net, x, units), strict=True)
        shown = [fitted(pixels.cpu(), box, x.shape[-1]) for pixels, box in pairs]
        projections, box = [pixels.numpy() for pixels, _ in shown], shown[0][1]
        name = in_words(at.dataset, image) + ("" if seen.target is None else f", named {names[seen.target]}")
        words, picture = f"{story}: {name}; {layer}, map {seen.map}", covered(net, x[:1], seen)
        rows.append(Row(words, x[0], picture, seen, projections, box, names))
    return Occlusions(rows, title, net, at.source(seed))


STORIES = (
    "Another object when the main one is covered",
    "The strongest map is not what the class depends on",
    "Several objects",
)
WITHOUT_CLASSIFIER = ("The activity that falls most", "The second most", "The third most")


def stories(seen: dict[int, Occlusion]) -> dict[str, int]:
    """Choose a picture for each story, none twice; without a classifier those in which the activity falls."""
    if next(iter(seen.values())).probability is None:
        left = {image: one.activity.min() / one.activity.max().clamp(min=1e-12) for image, one in seen.items()}
        return dict(zip(WITHOUT_CLASSIFIER, sorted(left, key=left.get), strict=False))
    # Pictures of whose class the network is not sure anywhere are left out, unless too few remain.
    sure = [image for image, one in seen.items() if one.probability.max() >= 0.3]
    left, chosen, scores = sure if len(sure) >= len(STORIES) else list(seen), {}, {}
    for image in left:
        one = seen[image]
        activity, probability = _losses(one.activity), _losses(one.probability)
        # The largest probability lost at a place where another class becomes the most probable.
        another_object = np.where((one.label != one.target).numpy(), probability, 0).max()
        # How little the losses of activity and of probability agree, where both are worth speaking of.
        not_the_class = -2.0
        if probability.max() >= 0.2 and activity.max() >= 0.2 * float(one.activity.max()):
            not_the_class = -np.corrcoef(activity.ravel(), probability.ravel())[0, 1]
        # How many classes are the most probable at some place; of equal ones where the probability falls more.
        several_objects = len(one.label.unique()) + float(probability.max())
        scores[image] = (another_object, not_the_class, several_objects)
    for number, story in enumerate(STORIES[: len(left)]):
        chosen[story] = max(left, key=lambda image, number=number: scores[image][number])
        left.remove(chosen[story])
    return chosen


def _losses(values: Tensor) -> np.ndarray:
    """Return how far activity or probability falls at each place of the square."""
    return (values.max() - values).numpy()


def lowest(seen: Occlusion) -> tuple[int, int]:
    """Return the pixel of the square's corner where probability, else activity, falls most."""
    lost = _losses(seen.activity if seen.probability is None else seen.probability)
    row, column = divmod(int(lost.argmax()), lost.shape[1])
    return row * seen.stride, column * seen.stride


def covered(net: Network, x: Tensor, seen: Occlusion) -> np.ndarray:
    """Return a prepared picture [1, 3, H, W] as the network sees it with the square where most is lost."""
    x, (top, left) = x.clone(), lowest(seen)
    x[..., top : top + seen.size, left : left + seen.size] = 0  # the mean
    return rows_first(net.preparation.visible(x)[0])


def occlude_picture(
    net: Network, picture: Path, label: str = "", classes: Sequence[str] = (), name: str = "", **how
) -> tuple[Figure, Occlusion, str]:
    """Occlude a picture in a file and draw what the network sees; say in a sentence where most is lost.

    The label is a class by number or name, of `classes` if these are known; the rest is as `occlude` takes it.
    """
    name, classes = name or net.name, classes or tuple(f"class {n}" for n in range(net.classes))
    if label and not net.classes:
        raise ZfnetError(f"{name} has no classifier here, so no class {label!r}; leave the label out")
    if label and not label.isdecimal() and label not in classes:
        near = get_close_matches(label, classes, 2)
        near += [each for each in classes if label.lower() in each.lower() and each not in near][:5]
        ask = f"did you mean {' or '.join(near)}?" if near else "give its number"
        raise ZfnetError(f"{name} has no class {label!r}; {ask}")
    target = int(label) if label.isdecimal() else classes.index(label) if label else None
    x, layer = net.prepare([read_picture(picture)]), how.pop("layer", None) or net.outline[-1]
    seen = occlude(net, x, target, layer=layer, **how)
    values = seen.activity if seen.probability is None else seen.probability
    watched = "the activity" if seen.target is None else f"the probability of {classes[seen.target]}"
    fall = f"{watched} falls most, from {values.max():.3g} to {values.min():.3g}"
    words = "{}, with the square's corner at row {}, column {}".format(fall, *lowest(seen))
    row = Row("", x[0], covered(net, x, seen), seen, (), None, classes)
    columns = COLUMNS[:2] + COLUMNS[3:] * (seen.target is not None)
    side, below = min(_side(len(columns)), 2.4), 0.75 if seen.label is not None else 0.2  # inches
    sheet = Sheet(Sheet.HEAD + 0.22 + side + below, f"{name} on {picture.name}; {layer}, map {seen.map}")
    _draw_row(sheet, _heads(sheet, columns, side), Sheet.HEAD + 0.22, row, side)
    return sheet.figure, seen, words


INSIDE, CHANCE = "largest drop on the object", "places on the object"


def looking(profile: str, live: bool = False, pictures: int = 100, seed: int = 0) -> Table:
    """Count how often a class is lost most where the square touches its object, on `shapes` (section 4.2)."""
    path = results_root(profile_of(profile).name) / "looking" / "shapes.jsonl"
    if live or profile == "smoke":
        store(path, _looking(pictures, seed))
    found = read(path)
    if not found:
        return Table({"command": "Not run"}, [{"command": f"`zfnet run fig6 --profile {profile} --live`"}])
    rows: dict[str, dict] = {}
    for record in found:
        kind = record.parameters["pictures"]
        rows.setdefault(kind, {"kind": kind, "n": record.n})[record.quantity] = record.value
    columns = {"kind": "Pictures", "n": "Right answers", INSIDE: "Largest drop on the object, %"}
    return Table(columns | {CHANCE: "Places on the object, %"}, list(rows.values()), str(setting.source_of(found)))


def _looking(pictures: int, seed: int) -> Iterator[Record]:
    watch, net, share = Stopwatch(), setting.network_of("smoke"), 1 / 7  # of the side, the square's
    crop = net.preparation.crop
    for name, title in (("shapes", "one object"), ("shapes-scenes", "several objects")):
        dataset, drops = open_dataset(name, "val"), []
        for image in np.random.default_rng(seed).permutation(len(dataset))[:pictures].tolist():
            masks = {thing.label: thing.mask for thing in dataset.objects(image)}
            x = net.prepare([dataset[image].picture])
            answer = int(net.trace(x).logits.argmax())
            if answer in masks:
                seen = occlude(net, x, answer, size=round(share * crop))
                mask = replace(dataset[image], mask=masks[answer]).squared(net.preparation.short_side).mask
                drops.append(largest_drop(seen.probability, centre_square(mask, crop), seen.size, seen.stride))
        if not drops:
            raise ZfnetError(f"{net.name} names no object in {pictures} pictures of {name}; look at more of them")
        facts = {"n": len(drops), "parameters": {"pictures": title, "square": share}, "spec": MINI.name}
        facts["data"] = setting.describe_pictures(dataset)
        for quantity, counted in ((INSIDE, "inside"), (CHANCE, "share")):
            value = 100 * mean(getattr(drop, counted) for drop in drops)
            yield Record("looking", quantity, value, "%", watch.provenance(seed), **facts)


COLUMNS = ("picture and square", "activity of the map", "its projections", "probability", "most probable")
GAP = 0.1  # inches between panels


def _side(columns: int) -> float:
    return (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns


def _heads(sheet: Sheet, columns: Sequence[str], side: float) -> list[float]:
    """Write what columns show above them; return where each begins."""
    places = [MARGIN + number * (side + GAP) for number in range(len(columns))]
    for x, words in zip(places, columns, strict=True):
        sheet.text(x + side / 2, Sheet.HEAD + 0.08, words, NORMAL, colour=GREY)
    return places


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Draw one row a picture: the square, activity, projections, probability and most probable label (Fig. 6)."""
    if not rows:
        raise FigureError("Fig. 6 shows at least one picture; given none")
    side = _side(len(COLUMNS))
    begin, step = Sheet.HEAD + 0.22, 0.24 + side + 0.75  # inches; the last ones for names and ranges below a row
    sheet = Sheet(begin + len(rows) * step, title)
    places = _heads(sheet, COLUMNS, side)
    for number, row in enumerate(rows):
        y = begin + number * step
        sheet.text(MARGIN, y + 0.1, row.title, NORMAL, across="left")
        _draw_row(sheet, places, y + 0.24, row, side)
    return sheet.figure


def _draw_row(sheet: Sheet, places: Sequence[float], y: float, row: Row, side: float) -> None:
    """Draw a row from its left end on; one without projections has no place for them."""
    seen, (first, second, *rest) = row.seen, places

    def panel(x: float, values: np.ndarray, words: str, top: float | None = None) -> None:
        sheet.picture(values, x, y, side, side, top=top)
        sheet.text(x + side / 2, y + side + 0.1, words)

    panel(first, row.picture, f"square of {seen.size} pixels")
    if row.box:  # the field of the strongest unit, within the picture
        field = row.box.clipped(*row.picture.shape[:2])
        sheet.frame(first, y, side / len(row.picture), field)

    most = float(seen.activity.max())
    panel(second, seen.activity.double().numpy(), f"0 to {most:.3g}", max(most, 1e-12))

    if row.projections:  # two by two, that from this picture first, framed as in the picture
        third, *rest = rest
        small = (side - 0.04) / 2
        for number, values in enumerate(row.projections[:4]):
            down, across = divmod(number, 2)
            x, top = third + across * (small + 0.04), y + down * (small + 0.04)
            sheet.picture(projection_image(values), x, top, small, small)
            if not number:
                scale = small / values.shape[-1]
                sheet.frame(x - row.box.left * scale, top - row.box.top * scale, scale, field)
        sheet.text(third + side / 2, y + side + 0.1, "here (framed), elsewhere")

    if seen.probability is None:
        for x in rest:
            sheet.box(x, y, side, side, fill=PALE, edge="none")
            sheet.text(x + side / 2, y + side / 2, "no classifier")
        return
    fourth, fifth = rest
    sure = float(seen.probability.max())
    panel(fourth, seen.probability.double().numpy(), f"of {row.classes[seen.target]}, 0 to {sure:.2g}", sure or 1.0)

    if len(seen.label.unique()) == 1:  # no map of one colour
        sheet.box(fifth, y, side, side, fill=PALE, edge="none")
        for down, words in ((-0.08, "everywhere"), (0.08, row.classes[int(seen.label[0, 0])])):
            sheet.text(fifth + side / 2, y + side / 2 + down, words[:22])
        return
    # Each place in the colour of its most probable class: the four most frequent ones, and one for all others.
    numbers, counts = np.unique(seen.label, return_counts=True)
    named = numbers[np.argsort(-counts, kind="stable")][:4].tolist()
    image = np.full((*seen.label.shape, 3), getrgb(PALE), np.uint8)
    legend = [(row.classes[number], colour) for number, colour in zip(named, PALETTE, strict=False)]
    for number, (_, colour) in zip(named, legend, strict=True):
        image[seen.label == number] = getrgb(colour)
    for line, (words, colour) in enumerate(legend + [("others", PALE)] * (len(numbers) > len(named))):
        down = y + side + 0.1 + 0.13 * line
        sheet.box(fifth, down - 0.045, 0.09, 0.09, fill=colour, edge="none")
        sheet.text(fifth + 0.14, down, words if len(words) <= 20 else words[:19] + "…", SMALL, across="left")
    sheet.picture(np.kron(image, np.ones((8, 8, 1), np.uint8)), fifth, y, side, side)

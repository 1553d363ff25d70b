"""The command line: `zfnet …`, the same as `python -m zfnet_lib …`."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path

import click
from tqdm import tqdm

from .architecture import ARCHITECTURES, architecture
from .files import FETCHED, META, PACKAGE, PROJECT, ZfnetError, notebook_names, replacing, stored_weights

# Commands import what computes, so that `zfnet --help` and `zfnet list` do not wait for torch.


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence that says what is wrong."""
    warnings.formatwarning = lambda message, *_, **__: f"zfnet: {message}\n"
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # such a picture gets a sentence of our own
    try:
        with zfnet.make_context("zfnet", list(sys.argv[1:] if arguments is None else arguments)) as context:
            zfnet.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:  # after --help
        return ended.exit_code
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except ZfnetError as error:
        print(f"zfnet: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end of this process complains
        return 141  # as what SIGPIPE ends
    except OSError as error:  # of a path that nobody looked at more closely
        where = f"cannot use {error.filename}: " if error.filename else ""
        print(f"zfnet: {where}{error.strerror or error}; choose another path, or mend this one", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError, on a processor without a class
        if not (isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error))):
            raise
        print("zfnet: the memory is too small for this; choose a smaller batch or size", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("zfnet: stopped; the same command continues where that is possible", file=sys.stderr)
        return 130
    return 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def zfnet() -> None:
    """The same as `python -m zfnet_lib …`: the networks, the deconvnet and the book, from the command line."""


def _checked_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path and path.is_dir():  # refused before the work, not after it
        raise ZfnetError(f"{path} is a folder; name a file")
    return path


def _own_device(context: click.Context, option: click.Parameter, name: str | None) -> None:
    """Let everything that is begun from here on, in notebooks and other processes too, compute on a device."""
    if name is not None:
        from .machine import DEVICE, checked_device

        before = os.environ.get(DEVICE)
        os.environ[DEVICE] = checked_device(name)
        context.call_on_close(lambda: os.environ.update({DEVICE: before}) if before else os.environ.pop(DEVICE))


def _network(command):
    """Give a command the options of `open_network`."""
    file = click.option("--weights", type=PATH, callback=_checked_file, metavar="FILE", help="a state dict for it")
    random = click.option("--random", is_flag=True, help="no weights, always the same random ones")
    layers = click.option("--layers", callback=_listed, metavar="A,B,…", help="of the network, these alone")
    return file(random(layers(command)))


def _listed(context: click.Context, option: click.Parameter, text: str | None) -> list[str] | None:
    return text.split(",") if text else None


def _profile(context: click.Context, option: click.Parameter, name: str) -> str:
    from .paper.setting import profile_of

    return profile_of(name).name


PATH = click.Path(path_type=Path)
COMPUTING = click.option(
    "--device", callback=_own_device, expose_value=False, help="cpu, cuda, cuda:1 or mps; a GPU by default"
)
NETWORK = click.option(
    "--network", required=True, help="weights of `zfnet list`, a folder, torchvision:NAME or FILE.py:FUNCTION"
)
SIZE = click.option("--size", "image_size", type=int, default=0, help="of the input; the network's own by default")
PROFILE = click.option("--profile", required=True, callback=_profile, help="smoke, tiny or paper")
JSON = partial(click.option, "--json", "target", type=PATH, callback=_checked_file, metavar="FILE")


@zfnet.command("list")
def list_all() -> None:
    """Networks, weights, data sets and notebooks, a line each."""
    shipped, here = PROJECT / "results", stored_weights()
    weights: list[tuple[str, ...]] = [
        (name, "not here", f"zfnet fetch {name}") for name in FETCHED if name not in here
    ]
    for name, folder in here.items():
        record = {}
        with suppress(ValueError, KeyError, OSError):  # `zfnet doctor` says what is damaged
            record = json.loads((folder / META).read_text())["record"]
        what = next((record[key] for key in ("good_for", "trained_on", "data") if key in record), "")
        weights.append((name, "ships" if folder.is_relative_to(shipped) else "here", what))
    data = tomllib.loads((PACKAGE / "datasets" / "datasets.toml").read_text(encoding="utf-8"))["datasets"]
    notebooks: list[tuple[str, ...]] = []
    try:
        for name in notebook_names():
            text = ""
            with suppress(ValueError, KeyError, IndexError):  # one of the user's own may be empty as yet
                first = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text())["cells"][0]
                text = "".join(first["source"])
            notebooks.append((name, text.partition("\n")[0].lstrip("# ")))
    except ZfnetError as error:
        notebooks = [(str(error), "")]
    sections: dict[str, list[tuple[str, ...]]] = {
        "Networks to train, with their parameters at 1000 classes (mini at 16)": [
            (name, f"{sum(spec.parameters().values()):11,}") for name, spec in ARCHITECTURES.items()
        ],
        "Weights": weights,
        "Data sets": [(name, facts["title"]) for name, facts in data.items()],
        "Notebooks": notebooks,
    }
    texts = []
    for title, rows in sections.items():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        texts.append("\n  ".join([title, *lines]))
    print("\n\n".join(texts))


@zfnet.command()
def doctor() -> None:
    """What is installed and at hand, and what brings the rest."""
    from .doctor import diagnose

    for line in diagnose():
        print(line)


@zfnet.command()
@click.argument("name")
@click.option("--from", "source", type=PATH, metavar="FILE", help="an archive that is already here")
def fetch(name: str, source: Path | None) -> None:
    """Bring weights or a data set."""
    from .datasets import DATASETS, fetch_dataset
    from .datasets.pretrained import FETCHERS, fetch_weights

    known = [*FETCHERS, *DATASETS]
    if name not in known:
        raise ZfnetError(f"there is nothing called {name!r} to fetch; known are {', '.join(known)}")
    print((fetch_weights if name in FETCHERS else fetch_dataset)(name, source))


@zfnet.command()
@click.argument("dataset")
@click.option("--side", type=int, help="pixels; the data set's own by default")
def pack(dataset: str, side: int | None) -> None:
    """Decode a data set once, for training. It is one of `zfnet list`, or folder:PATH."""
    from .datasets import dataset_entry, pack_dataset

    for split in dataset_entry(dataset).splits:
        made = pack_dataset(dataset, split, side)
        lost = f", {len(made.left_out)} unreadable pictures left out" if made.left_out else ""
        print(f"{made.name} {split}: {len(made):,} pictures of {made.side} pixels{lost}")


@zfnet.command()
@click.argument("a")
@click.argument("b")
def overlap(a: str, b: str) -> None:
    """Find the training pictures of A that B has too. Training leaves them out."""
    from .datasets import dataset_entry
    from .datasets.overlap import find_overlap, overlap_path
    from .paper import trainings

    if not trainings.has_splits(a):
        none = "has no split of its own for training, and a training on it leaves nothing out"
        raise ZfnetError(f"{a} {none}; name it second: zfnet overlap {b} {a}")
    first, splits = trainings.training_data(a, "train"), dataset_entry(b).splits
    for split in [split for split in splits if split in ("all", "trainval")] or splits:
        second = trainings.training_data(b, split)
        found = find_overlap(first, second)
        found.save(overlap_path(first, second))
        print(found.report())


@zfnet.command()
@COMPUTING
@click.argument("name", required=False)
@click.option("--table", type=click.IntRange(1, 2), help="instead of NAME: what Tables 1 and 2 lack, in turn")
@click.option("--data", required=True, help="a data set of `zfnet list`, or folder:PATH")
@click.option("--recipe", default="tiny", help="smoke, tiny (default) or paper")
@click.option("--seed", type=int, default=0)
@click.option("--clip", default="all", help="filters scaled back: all, none (Fig. 5a), first, but-first")
@click.option("--precision", help="bfloat16 or float32; the recipe's by default")
@click.option("--epochs", type=int, help="the recipe's by default")
@click.option("--rate", type=click.Choice(["constant"]), help="constant: the learning rate never falls")
@click.option("--batch", type=int, help="pictures an update, a multiple of the processes; the recipe's by default")
@click.option("--views", help="of each picture: random, ten (section 3) or centre; the recipe's by default")
@click.option("--each", type=int, default=0, help="so many pictures a class, of the fold --seed (section 5.2)")
@click.option("--resume", is_flag=True, help="continue an unfinished training")
@click.option("--compile", "compiled", is_flag=True, help="through torch.compile; for GPUs")
@click.option("--workers", type=int, default=0, help="decoding processes, where the data are not packed")
def train(name, table, data, recipe, seed, each, resume, compiled, workers, rate, **changes) -> None:
    """Train a network by a recipe, or all that the tables compare."""
    if bool(name) == bool(table):
        raise click.UsageError("name an architecture of `zfnet list`, or a table by --table")
    own = {"seed": seed, "each": each, "rate": rate} | changes | {"clip": changes["clip"] != "all"}
    if table and (given := [f"--{option}" for option, value in own.items() if value]):
        raise click.UsageError(f"--table trains by the recipe as it is; leave out {', '.join(given)}")
    if table and "LOCAL_RANK" in os.environ:
        raise click.UsageError("--table trains by one process; name an architecture under torchrun")
    from .machine import process_group, tune_allocator
    from .paper import trainings
    from .training import Drops, recipe_named

    def move(bar, progress) -> None:  # a resumed training begins in the middle
        if bar.total is None:
            bar.total = progress.updates
            bar.initial = bar.n = bar.last_print_n = progress.update - 1
        bar.set_postfix(loss=f"{progress.loss:.3f}", rate=f"{progress.rate:g}", refresh=False)
        bar.update(progress.update - bar.n)

    def measure_ensembles() -> None:
        for sentence in trainings.measure_ensembles(data, recipe) if table else ():
            print(sentence)

    tune_allocator()
    with process_group():
        recipe, stopped = recipe_named(recipe), []
        changes["anneal"] = Drops(()) if rate else None
        how = {"resume": resume or bool(table), "workers": workers, "compiled": compiled}
        if name:
            own = replace(recipe, **{key: value for key, value in changes.items() if value is not None})
            asked = [trainings.Training(architecture(name).name, data, own, seed, each)]
        else:
            asked = trainings.queue(data, recipe)
            measure_ensembles()  # of what is at hand already
        for training in asked:
            if table and not trainings.lacks(training, data, recipe):
                continue
            try:
                with tqdm(unit="update", desc=training.name, mininterval=1, delay=1) as bar:
                    for epoch in trainings.epochs(training, **how, report=partial(move, bar), notice=bar.write):
                        said = f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, "
                        if epoch.top1 is not None:
                            said += f"validation error {epoch.top1:.1f} % top-1, {epoch.top5:.1f} % top-5, "
                        stalled = "; it has stalled at ln(classes): another seed may not" if epoch.stalled else ""
                        bar.write(f"{said}{epoch.images_per_second:.0f} images/s{stalled}")
            except ZfnetError as error:
                if name:
                    raise
                print(f"{training.name}: {error}", file=sys.stderr)
                stopped.append(training.name)
            measure_ensembles()
        if name:
            print(f"weights: {training.weights}\nrecord: {training.epochs_file}\nerrors: {training.errors_file}")
        else:
            print(*trainings.report(asked), sep="\n")
        if stopped:
            raise ZfnetError(f"{len(stopped)} trainings stopped: {', '.join(stopped)}; their messages stand above")


@zfnet.command()
@COMPUTING
@click.argument("networks", metavar="NAME...", nargs=-1, required=True)
@click.option("--data", required=True)
@click.option("--split", default="val")
@click.option("--views", type=int, default=1, help="1 or 10")
@JSON(help="add the records to FILE")
def evaluate(networks: tuple[str, ...], data: str, split: str, views: int, target: Path | None) -> None:
    """Measure the top-1 and top-5 errors of weights. Several are averaged."""
    from .evaluation import errors
    from .paper import records, trainings
    from .weights import open_network

    watch, nets = records.Stopwatch(), [open_network(name) for name in networks]
    pictures = trainings.training_data(data, split)
    for name, net in zip(networks, nets, strict=True):
        trainings.require_fair(name, net, pictures)
    found = errors(nets, pictures, views, progress=True)
    rest = f"({found.n:,} pictures, {found.views} view{'s'[: found.views > 1]})"
    print(f"top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} % {rest}")
    for title, classes in zip(("easiest", "hardest"), found.extremes(3), strict=True):
        print(f"{title}: " + ", ".join(f"{pictures.classes[i]} {found.per_class[i]:.0f} %" for i in classes))
    if target:
        settings = {"networks": sorted(Path(name).name for name in networks)}
        made = watch.provenance(0, nets[0].device)
        records.append(target, trainings.error_records(found, pictures, made, settings))


@zfnet.command()
@COMPUTING
@click.argument("name")
def ship(name: str) -> None:
    """Store a finished training's weights as the project ships them. NAME is, for example, zfnet-tiny."""
    from .paper import trainings

    for sentence in trainings.ship(name):
        print(sentence)


@zfnet.command()
@COMPUTING
@click.argument("picture", type=PATH)
@NETWORK
@_network
@SIZE
@click.option("--layer", help="such as conv5; every layer by default, of other people's networks the outermost")
@click.option("--map", "map_", type=int, default=-1, help="the map with the largest activation by default")
@click.option("--out", type=PATH, default=Path(), help="folder for the PNG files")
def show(picture: Path, network: str, layer: str | None, layers, map_: int, out: Path, **how) -> None:
    """Project a picture of one's own."""
    from .paper.fig2 import project_picture
    from .weights import open_network

    layers = _chosen(layer, layers)
    net = open_network(network, layers=layers, **how)
    exact = getattr(net, "exact", ())
    passing = f"; the exact gradient passes {', '.join(exact)}" if exact else ""
    for name in layers or net.outline:
        figure, unit, activation = project_picture(net, picture, name, map_, _called(network, how))
        path = _written(figure, out / f"{picture.stem}-{name}-map{unit.map}.png")
        print(f"{path}: {name}, map {unit.map}, activation {activation:.4g}{passing}")


def _chosen(layer: str | None, layers: list[str] | None) -> list[str] | None:
    if layer and layers:
        raise click.UsageError("--layer names one layer and --layers several; give one of the two")
    return [layer] if layer else layers


def _called(network: str, how: dict) -> str:
    """Return what a picture's title calls a network."""
    return network + ", random weights" * how["random"]


def _written(figure, first: Path) -> Path:
    """Write a figure where no other content is overwritten: `1.png`, `1-2.png` …"""
    png, path, ends = BytesIO(), first, count(2)
    figure.savefig(png, format="png")
    while path.is_dir() or (path.is_file() and path.read_bytes() != png.getvalue()):
        path = first.with_stem(f"{first.stem}-{next(ends)}")
    with replacing(path) as temporary:
        temporary.write_bytes(png.getvalue())
    return path


@zfnet.command()
@COMPUTING
@click.argument("picture", type=PATH)
@NETWORK
@_network
@SIZE
@click.option("--label", default="", help="class to watch, by number or name; the network's answer by default")
@click.option("--square", type=int, help="its side in pixels; 50/224 of the picture's by default")
@click.option("--stride", type=int, help="its step in pixels; 6/224 of the picture's by default")
@click.option("--layer", help="whose activity is shown; the last by default")
@click.option("--map", "map_", type=int, help="the map with the largest activation by default")
@click.option("--out", type=PATH, default=Path(), help="folder for the PNG file")
def occlude(picture: Path, network: str, label: str, square, stride, layer, layers, map_, out: Path, **how) -> None:
    """Cover a picture of one's own with a square, place by place. Shows what is then seen (section 4.2)."""
    from .paper.fig6 import occlude_picture
    from .weights import known_classes, open_network

    net = open_network(network, layers=_chosen(layer, layers), **how)
    known = net.classes and not (how["weights"] or how["random"])
    square = {"size": square, "stride": stride, "layer": layer, "map_": map_, "progress": True}
    square |= {"name": _called(network, how), "classes": known_classes(network) if known else ()}
    figure, seen, lost = occlude_picture(net, picture, label, **square)
    path = _written(figure, out / f"{picture.stem}-occluded-{layer or net.outline[-1]}-map{seen.map}.png")
    print(f"{path}: {lost}")


@zfnet.command()
@COMPUTING
@click.argument("networks", metavar="NETWORK...", nargs=-1, required=True)
@_network
@click.option("--pictures", default="photos", help="a data set of `zfnet list`, or folder:PATH")
@click.option("--size", "--side", type=int, default=0, help="of the input; its own, or 224 on larger pictures")
@click.option("--maps", type=int, default=0, help="of each layer above the first, drawn by seed; all by default")
@click.option("--out", type=PATH, help="folder; by default atlas/NETWORK-PICTURES in the checkout")
def atlas(networks: tuple[str, ...], pictures: str, size: int, maps: int, out: Path | None, **how) -> None:
    """Write the strongest units of every map, and a browser of them."""
    from .machine import tune_allocator
    from .paper.fig2 import microscope, title_of

    tune_allocator()
    names = "+".join(map(title_of, networks))
    folder = out or PROJECT / "atlas" / f"{names}-{pictures}".replace(":", "-").replace("/", "-")
    page = microscope(networks, pictures, folder, side=size, maps=maps, progress=True, **how)
    print(f"{page}: open it in a browser")


@zfnet.command()
@COMPUTING
@click.argument("notebooks", metavar="[NOTEBOOK]...", nargs=-1)
@PROFILE
@click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE")
@click.option("--live", is_flag=True, help="compute everything, even what is stored")
@click.option("--out", type=PATH, help="folder for the executed notebooks")
@click.option("--jobs", type=int, help="notebooks at a time; by default 1, in smoke one a core")
def run(notebooks, profile: str, parameters, live: bool, out: Path | None, jobs: int | None) -> None:
    """Execute notebooks by papermill."""
    from .machine import cores
    from .paper.runner import run_notebooks, summary

    for text in parameters:
        if not text.partition("=")[0] or "=" not in text:
            raise ZfnetError(f"-p takes name=value, given {text!r}")
    given = dict(text.split("=", 1) for text in parameters)
    jobs = jobs if jobs is not None else cores() if profile == "smoke" else 1
    runs = []
    for ended in run_notebooks(notebooks, profile, given, live=live, out=out, jobs=jobs):
        runs.append(ended)
        print(f"{ended.notebook}: {ended.state}", file=sys.stderr)
    print(summary(runs))
    failed = [ended.notebook for ended in runs if ended.state == "failed"]
    if failed:
        raise ZfnetError(f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}")


@zfnet.command()
@PROFILE
@click.option("--out", type=PATH, help="folder of the executed notebooks, as given to `zfnet run`")
def book(profile: str, out: Path | None) -> None:
    """Publish executed notebooks as a book."""
    from .paper.runner import publish_book

    print(f"The book: {publish_book(profile, out)}")


@zfnet.command()
@COMPUTING
@click.argument("names", metavar="[CLAIM]...", nargs=-1)
@PROFILE
@click.option("--live", is_flag=True, help="first measure those that have a record of their own")
@JSON(help="write the ledger to FILE")
def claims(names: tuple[str, ...], profile: str, live: bool, target: Path | None) -> None:
    """The paper's claims, each with our number and the verdict."""
    from .machine import tune_allocator
    from .paper.claims import ledger, measurable, measure, report

    if live:
        tune_allocator()
        with tqdm(measure(profile, names), total=len(measurable(names)), unit="claim", desc="claims") as bar:
            for name, seconds in bar:
                bar.write(f"{name}: " + (f"measured in {seconds:.0f} s" if seconds else "kept, by this very code"))
    found = ledger(profile, names)
    print(*report(found), sep="\n")
    if target:
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(found.values(), indent=1, ensure_ascii=False) + "\n")


@zfnet.command()
@COMPUTING
@click.argument("names", metavar="[BENCH]...", nargs=-1)
@click.option("--tuned", is_flag=True, help="let glibc keep freed memory, for both sides")
@JSON(help="add the records to FILE")
def bench(names: tuple[str, ...], tuned: bool, target: Path | None) -> None:
    """Time ours against its peers.

    BENCH is deconv, mining, norm, occlusion or train; all by default. train computes on --device, the others on
    the processor.
    """
    from .bench import BENCHES
    from .machine import tune_allocator
    from .paper import records

    if tuned and not tune_allocator():
        raise ZfnetError("there is no glibc here whose allocator could be tuned; leave out --tuned")
    for name in names:
        if name not in BENCHES:
            raise ZfnetError(f"there is no benchmark {name!r}; known are {', '.join(BENCHES)}")
    allocator = {"allocator": "tuned" if tuned else "default"}
    for name in names or BENCHES:
        measured = [replace(record, parameters=record.parameters | allocator) for record in BENCHES[name]()]
        print(f"{name} on {measured[0].provenance.device}, {allocator['allocator']} allocator")
        for record in measured:
            spread = f" (n = {record.n}, range {record.spread:.2f})" if record.spread is not None else ""
            print(f"  {record.quantity:44}{record.value:8.2f} {record.unit}{spread}")
        if target:
            records.append(target, measured)


if __name__ == "__main__":
    sys.exit(main())

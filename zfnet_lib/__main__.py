"""The command line: `zfnet …`, the same as `python -m zfnet_lib …`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from io import BytesIO
from itertools import chain, count
from pathlib import Path

from .files import ZfnetError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence that says what is wrong."""
    warnings.formatwarning = lambda message, *_, **__: f"zfnet: {message}\n"
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # such a picture gets a sentence of our own
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
        sys.stdout.flush()
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
    except KeyboardInterrupt:
        print("zfnet: stopped; the same command continues where that is possible", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zfnet", description=__doc__.partition(":")[2].strip())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _command(commands, "list", _list, "architectures, data sets, weights and notebooks")
    _command(commands, "doctor", _doctor, "what is installed and at hand, and what brings the rest")

    fetch = _command(commands, "fetch", _fetch, "bring weights or a data set")
    fetch.add_argument("name")
    fetch.add_argument("--from", dest="source", type=Path, metavar="FILE", help="an archive that is already here")

    pack = _command(commands, "pack", _pack, "decode a data set once, for training")
    pack.add_argument("dataset", help="a data set of `zfnet list`, or folder:PATH")
    pack.add_argument("--side", type=int, help="pixels; the data set's own by default")

    overlap = _command(
        commands, "overlap", _overlap, "find the training pictures of A that B has too; training leaves them out"
    )
    overlap.add_argument("a", metavar="A")
    overlap.add_argument("b", metavar="B")

    train = _command(commands, "train", _train, "train an architecture by a recipe, or all that the tables compare")
    what = train.add_mutually_exclusive_group(required=True)
    what.add_argument("network", metavar="NAME", nargs="?", help="an architecture of `zfnet list`")
    what.add_argument("--table", type=int, choices=(1, 2), help="what Tables 1 and 2 lack, one after the other")
    train.add_argument("--data", required=True, help="a data set of `zfnet list`, or folder:PATH")
    train.add_argument("--recipe", default="tiny", help="smoke, tiny (default) or paper")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--clip", default="all", help="filters scaled back: all, none (Fig. 5a), first, but-first")
    train.add_argument("--precision", help="bfloat16 or float32; the recipe's by default")
    train.add_argument("--epochs", type=int, help="the recipe's by default")
    train.add_argument("--batch", type=int, help="pictures an update, a multiple of the processes; the recipe's")
    train.add_argument("--views", help="of each picture: random (crops and flips), ten (of section 3) or centre")
    train.add_argument(
        "--each", type=int, default=0, help="so many pictures a class, those of the fold --seed (section 5.2)"
    )
    train.add_argument("--resume", action="store_true", help="continue an unfinished training")
    train.add_argument("--compile", action="store_true", help="through torch.compile; for GPUs")
    train.add_argument("--workers", type=int, default=0, help="decoding processes, where the data are not packed")

    evaluate = _command(commands, "evaluate", _evaluate, "measure top-1 and top-5 errors")
    evaluate.add_argument("networks", nargs="+", metavar="NAME", help="weights; several are averaged")
    evaluate.add_argument("--data", required=True)
    evaluate.add_argument("--split", default="val")
    evaluate.add_argument("--views", type=int, default=1, help="1 or 10")
    evaluate.add_argument("--json", type=_file, metavar="FILE", help="add the records to FILE")

    ship = _command(commands, "ship", _ship, "store the weights of a finished training as the project ships them")
    ship.add_argument("name", help="such as zfnet-tiny")

    show = _command(commands, "show", _show, "project a picture of one's own")
    show.add_argument("picture", type=Path)
    show.add_argument("--network", required=True, help="name or folder of weights")
    show.add_argument("--layer", help="such as conv5; every convolutional layer by default")
    show.add_argument("--map", type=int, default=-1, help="the map with the largest activation by default")
    show.add_argument("--out", type=Path, default=Path(), help="folder for the PNG files")

    atlas = _command(commands, "atlas", _atlas, "the strongest units of every map, with a browser to look at them")
    atlas.add_argument("networks", nargs="+", metavar="NETWORK", help="name or folder of weights")
    atlas.add_argument("--pictures", default="photos", help="a data set of `zfnet list`, or folder:PATH")
    atlas.add_argument(
        "--side", type=int, default=0, help="input size; by default the network's own, or 224 on larger pictures"
    )
    atlas.add_argument(
        "--maps", type=int, default=0, help="of each layer above the first, drawn by seed; all by default"
    )
    atlas.add_argument("--out", type=Path, help="folder; atlas/NETWORK-PICTURES by default")

    run = _command(commands, "run", _run, "execute notebooks by papermill")
    run.add_argument("notebooks", nargs="*", metavar="NOTEBOOK")
    run.add_argument("--profile", required=True, help="smoke, tiny or paper")
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--live", action="store_true", help="compute everything, even what is stored")
    run.add_argument("--out", type=Path, help="folder for the executed notebooks")
    run.add_argument("--jobs", type=int, help="notebooks at a time; by default 1, in smoke one a core")

    book = _command(commands, "book", _book, "publish executed notebooks as a book")
    book.add_argument("--profile", required=True, help="smoke, tiny or paper")
    book.add_argument("--out", type=Path, help="folder of the executed notebooks, as given to `zfnet run`")

    claims = _command(commands, "claims", _claims, "the paper's claims, each with our number and the verdict")
    claims.add_argument("claims", nargs="*", metavar="CLAIM", help="all by default")
    claims.add_argument("--profile", required=True, help="smoke, tiny or paper")
    claims.add_argument("--live", action="store_true", help="first measure those that have a record of their own")
    claims.add_argument("--json", type=_file, metavar="FILE", help="write the ledger to FILE")

    bench = _command(commands, "bench", _bench, "time ours against its peers")
    bench.add_argument("what", nargs="*", metavar="BENCH", help="deconv, mining, norm, occlusion, train")
    bench.add_argument("--tuned", action="store_true", help="let glibc keep freed memory, for both sides")
    bench.add_argument("--json", type=_file, metavar="FILE", help="add the records to FILE")
    return parser


def _command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def _file(text: str) -> Path:
    """Return the path of a file to write; a folder is refused before the work, not after it."""
    if Path(text).is_dir():
        raise ZfnetError(f"{text} is a folder; name a file")
    return Path(text)


# Commands import what they need: `zfnet --help` and `zfnet list` stay fast.


def _list(options: argparse.Namespace) -> None:
    from .architecture import ARCHITECTURES
    from .datasets import DATASETS
    from .paper.trainings import queue, report
    from .runner import notebook_names
    from .training import TINY
    from .weights import FETCHERS

    print("Architectures (parameters at 1000 classes, MINI at 16)")
    for name, spec in ARCHITECTURES.items():
        print(f"  {name:34}{sum(spec.parameters().values()):>13,}")
    print("\nData sets")
    for name, entry in DATASETS.items():
        print(f"  {name:24}{entry.title}")
    print("\nWeights to fetch\n  " + "\n  ".join(FETCHERS))
    print("\nTrainings of Tables 1 and 2 on Tiny-ImageNet, with their top-1 error")
    for line in report(queue("tiny-imagenet", TINY)):
        print(f"  {line}")
    try:
        names = notebook_names()
    except ZfnetError as error:
        names = [str(error)]
    print("\nNotebooks\n  " + "\n  ".join(names))


def _doctor(options: argparse.Namespace) -> None:
    from .doctor import diagnose

    for line in diagnose():
        print(line)


def _fetch(options: argparse.Namespace) -> None:
    from .datasets import DATASETS, fetch_dataset
    from .weights import FETCHERS, fetch_weights

    if options.name in FETCHERS:
        print(fetch_weights(options.name, options.source))
    elif options.name in DATASETS:
        print(fetch_dataset(options.name, options.source))
    else:
        known = ", ".join([*FETCHERS, *DATASETS])
        raise ZfnetError(f"there is nothing called {options.name!r} to fetch; known are {known}")


def _pack(options: argparse.Namespace) -> None:
    from .datasets import pack_dataset, splits_of

    for split in splits_of(options.dataset):
        pack = pack_dataset(options.dataset, split, options.side)
        lost = f", {len(pack.index.left_out)} unreadable pictures left out" if pack.index.left_out else ""
        print(f"{pack.name} {split}: {len(pack):,} pictures of {pack.index.side} pixels{lost}")


def _overlap(options: argparse.Namespace) -> None:
    from .datasets import splits_of
    from .datasets.overlap import find_overlap, overlap_path
    from .paper.trainings import training_data

    first = training_data(options.a, "train")
    splits = splits_of(options.b)
    whole = [split for split in ("all", "trainval") if split in splits]
    for split in whole or splits:
        second = training_data(options.b, split)
        overlap = find_overlap(first, second)
        overlap.save(overlap_path(first, second))
        print(overlap.report())


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from .architecture import architecture
    from .machine import joined, tune_allocator
    from .paper.trainings import ALTERED, Training, epochs
    from .training import recipe_named

    tune_allocator()
    machine = {"workers": options.workers, "compiled": options.compile}
    with joined():
        if options.table:
            _train_queue(options, machine)
            return
        recipe = recipe_named(options.recipe)
        changes = {key: getattr(options, key) for key in ALTERED}
        recipe = replace(recipe, **{key: value for key, value in changes.items() if value is not None})
        training = Training(architecture(options.network).name, options.data, recipe, options.seed, options.each)
        _watch(training.name, epochs, training, resume=options.resume, **machine)
    print(f"weights: {training.weights}\nrecord: {training.epochs_file}\nerrors: {training.errors_file}")


def _train_queue(options: argparse.Namespace, machine: dict) -> None:
    """Train what is missing, one after the other; what another process trains is left to it."""
    from .paper.trainings import epochs, lacks, measure_ensembles, queue, report
    from .training import recipe_named

    recipe, stopped = recipe_named(options.recipe), []
    trainings = queue(options.data, recipe)
    for training in trainings:
        if not lacks(training, options.data, recipe):
            continue
        try:
            _watch(training.name, epochs, training, resume=True, **machine)
        except ZfnetError as error:
            print(f"{training.name}: {error}", file=sys.stderr)
            stopped.append(training.name)
        for sentence in measure_ensembles(options.data, recipe):
            print(sentence)
    print("\n".join(report(trainings)))
    if stopped:
        raise ZfnetError(f"{len(stopped)} trainings stopped: {', '.join(stopped)}; their messages stand above")


def _watch(name: str, run: Callable, *arguments, **options) -> None:
    """Follow a training with a bar over its updates and a line an epoch."""
    from tqdm import tqdm

    with tqdm(unit="update", desc=name, mininterval=1, delay=1) as bar:

        def report(progress) -> None:
            if bar.total is None:  # a resumed training begins in the middle
                bar.total = progress.updates
                bar.initial = bar.n = bar.last_print_n = progress.update - 1
            bar.set_postfix(loss=f"{progress.loss:.3f}", rate=f"{progress.rate:g}", refresh=False)
            bar.update(progress.update - bar.n)

        for epoch in run(*arguments, **options, report=report, notice=bar.write):
            stalled = "; it has stalled at ln(classes): another seed may not" if epoch.stalled else ""
            errors = ""
            if epoch.top1 is not None:
                errors = f"validation error {epoch.top1:.1f} % top-1, {epoch.top5:.1f} % top-5, "
            bar.write(
                f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, {errors}"
                f"{epoch.images_per_second:.0f} images/s{stalled}"
            )


def _evaluate(options: argparse.Namespace) -> None:
    from .evaluation import errors
    from .paper.records import Stopwatch, append
    from .paper.trainings import error_records, require_same_classes, training_data
    from .weights import load_network

    watch, nets = Stopwatch(), [load_network(name) for name in options.networks]
    data = training_data(options.data, options.split)
    for name, net in zip(options.networks, nets, strict=True):
        require_same_classes(name, net, data)
    found = errors(nets, data, options.views, progress=True)
    rest = f"({found.n:,} pictures, {found.views} views)"
    print(f"top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} % {rest}")
    for title, classes in zip(("easiest", "hardest"), found.extremes(3), strict=True):
        print(f"{title}: " + ", ".join(f"{data.classes[i]} {found.per_class[i]:.0f} %" for i in classes))
    if options.json:
        settings = {"networks": sorted(Path(name).name for name in options.networks)}
        append(options.json, error_records(found, data, watch.provenance(0, nets[0].device), settings))


def _ship(options: argparse.Namespace) -> None:
    from .paper.trainings import ship

    for sentence in ship(options.name):
        print(sentence)


def _show(options: argparse.Namespace) -> None:
    from .files import replacing
    from .paper.fig2 import project_picture
    from .paper.plots import unit_figure
    from .weights import load_network

    net = load_network(options.network)
    layers = [options.layer] if options.layer else [conv.name for conv in net.spec.convs]
    for layer in layers:
        shown = project_picture(net, options.picture, layer, options.map)
        title = f"{net.spec.name}, {layer}, map {shown.unit.map}: activation {shown.activation:.3g}"
        figure, png = unit_figure(shown.picture, shown.box, shown.patch, shown.projection, title), BytesIO()
        figure.savefig(png, format="png")
        path = _kept(options.out / f"{options.picture.stem}-{layer}-map{shown.unit.map}.png", png.getvalue())
        with replacing(path) as temporary:
            temporary.write_bytes(png.getvalue())
        print(f"{path}: {layer}, map {shown.unit.map}, activation {shown.activation:.4g}")


def _kept(path: Path, content: bytes) -> Path:
    """Return the path, or with the first number at which no other content is overwritten: `1.png`, `1-2.png` …"""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(p for p in chain([path], numbered) if _is_free(p, content))


def _is_free(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except IsADirectoryError:
        return False
    except OSError:  # there is nothing; or nothing can be written there, which writing says
        return True


def _atlas(options: argparse.Namespace) -> None:
    from .machine import tune_allocator
    from .paper.fig2 import microscope

    tune_allocator()
    names = "+".join(Path(network).name for network in options.networks)
    folder = options.out or Path("atlas") / f"{names}-{options.pictures}".replace(":", "-").replace("/", "-")
    page = microscope(
        options.networks, options.pictures, folder, side=options.side, maps=options.maps, progress=True
    )
    print(f"{page}: open it in a browser")


def _run(options: argparse.Namespace) -> None:
    from .machine import cores
    from .paper.setting import profile_of
    from .runner import run_notebooks, summary

    profile_of(options.profile)
    pairs = dict(_pair(text) for text in options.parameters)
    runs = []
    jobs = cores() if options.profile == "smoke" else 1
    chosen = {"live": options.live, "out": options.out, "jobs": jobs if options.jobs is None else options.jobs}
    for run in run_notebooks(options.notebooks, options.profile, pairs, **chosen):
        runs.append(run)
        print(f"{run.notebook}: {run.state}", file=sys.stderr)
    print(summary(runs))
    failed = [run.notebook for run in runs if run.state == "failed"]
    if failed:
        raise ZfnetError(f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ZfnetError(f"-p takes name=value, given {text!r}")
    return name, value


def _book(options: argparse.Namespace) -> None:
    from .paper.setting import profile_of
    from .runner import publish_book

    profile_of(options.profile)
    print(f"The book: {publish_book(options.profile, options.out)}")


def _claims(options: argparse.Namespace) -> None:
    import json

    from .files import replacing
    from .paper.claims import ledger, report
    from .paper.setting import profile_of

    profile_of(options.profile)
    if options.live:
        _measure_claims(options.profile, options.claims)
    found = ledger(options.profile, options.claims)
    print("\n".join(report(found)))
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(found.values(), indent=1, ensure_ascii=False) + "\n")


def _measure_claims(profile: str, names: list[str]) -> None:
    """Measure claims with a bar over them and a line each."""
    from tqdm import tqdm

    from .machine import tune_allocator
    from .paper.claims import measurable, measure

    tune_allocator()
    with tqdm(measure(profile, names), total=len(measurable(names)), unit="claim", desc="claims") as bar:
        for name, seconds in bar:
            bar.write(f"{name}: " + (f"measured in {seconds:.0f} s" if seconds else "kept, by this very code"))


def _bench(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from .bench import BENCHES
    from .machine import tune_allocator
    from .paper import records

    if options.tuned and not tune_allocator():
        raise ZfnetError("there is no glibc here whose allocator could be tuned; leave out --tuned")
    allocator = {"allocator": "tuned" if options.tuned else "default"}
    for name in options.what or BENCHES:
        if name not in BENCHES:
            raise ZfnetError(f"there is no benchmark {name!r}; known are {', '.join(BENCHES)}")
    for name in options.what or BENCHES:
        measured = [replace(record, parameters=record.parameters | allocator) for record in BENCHES[name]()]
        print(f"{name} on {measured[0].provenance.device}, {allocator['allocator']} allocator")
        for record in measured:
            spread = f" (n = {record.n}, range {record.spread:.2f})" if record.spread is not None else ""
            print(f"  {record.quantity:44}{record.value:8.2f} {record.unit}{spread}")
        if options.json:
            records.append(options.json, measured)


if __name__ == "__main__":
    sys.exit(main())

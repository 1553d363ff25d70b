"""The command line: `zfnet …`, the same as `python -m zfnet_lib …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .paths import ZfnetError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence that says what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ZfnetError as error:
        print(f"zfnet: {error}", file=sys.stderr)
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

    show = _command(commands, "show", _show, "project a picture of one's own")
    show.add_argument("picture", type=Path)
    show.add_argument("--network", required=True, help="name or folder of weights")
    show.add_argument("--layer", help="such as conv5; every convolutional layer by default")
    show.add_argument("--map", type=int, default=-1, help="the map with the largest activation by default")
    show.add_argument("--out", type=Path, default=Path(), help="folder for the PNG files")

    run = _command(commands, "run", _run, "execute notebooks by papermill")
    run.add_argument("notebooks", nargs="*", metavar="NOTEBOOK")
    run.add_argument("--profile", required=True, help="smoke, tiny or paper")
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--live", action="store_true", help="compute everything, even what is stored")
    run.add_argument("--out", type=Path, help="folder for the executed notebooks")

    book = _command(commands, "book", _book, "publish executed notebooks as a book")
    book.add_argument("--profile", required=True, help="smoke, tiny or paper")
    book.add_argument("--out", type=Path, help="folder for the book")

    bench = _command(commands, "bench", _bench, "time ours against its peers")
    bench.add_argument("what", nargs="*", metavar="BENCH", help="norm; all by default")
    bench.add_argument("--json", type=Path, metavar="FILE", help="add the records to FILE")
    return parser


def _command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


# Commands import what they need: `zfnet --help` and `zfnet list` stay fast.


def _list(options: argparse.Namespace) -> None:
    from .datasets import DATASETS
    from .notebooks import notebook_names
    from .specs import ARCHITECTURES
    from .weights import FETCHERS

    print("Architectures (parameters at 1000 classes, MINI at 16)")
    for name, spec in ARCHITECTURES.items():
        print(f"  {name:34}{sum(spec.parameters().values()):>13,}")
    print("\nData sets")
    for name, entry in DATASETS.items():
        print(f"  {name:24}{entry.title}")
    print("\nWeights to fetch\n  " + "\n  ".join(FETCHERS))
    print("\nNotebooks\n  " + "\n  ".join(notebook_names()))


def _doctor(options: argparse.Namespace) -> None:
    from .diagnosis import diagnose

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


def _show(options: argparse.Namespace) -> None:
    from .checkpoints import load_network
    from .experiments import project_picture
    from .figures import unit_figure
    from .paths import replacing

    net = load_network(options.network)
    layers = [options.layer] if options.layer else [conv.name for conv in net.spec.convs]
    for layer in layers:
        shown = project_picture(net, options.picture, layer, options.map)
        path = options.out / f"{options.picture.stem}-{layer}-map{shown.unit.map}.png"
        title = f"{net.spec.name}, {layer}, map {shown.unit.map}: activation {shown.activation:.3g}"
        figure = unit_figure(shown.picture, shown.box, shown.patch, shown.projection, title)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")
        print(f"{path}: {layer}, map {shown.unit.map}, activation {shown.activation:.4g}")


def _run(options: argparse.Namespace) -> None:
    from .notebooks import run_notebooks, summary

    pairs = dict(_pair(text) for text in options.parameters)
    runs = list(run_notebooks(options.notebooks, options.profile, pairs, live=options.live, out=options.out))
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
    from .notebooks import publish_book

    print(f"The book: {publish_book(options.profile, options.out)}")


def _bench(options: argparse.Namespace) -> None:
    from . import records
    from .bench import BENCHES

    for name in options.what or BENCHES:
        if name not in BENCHES:
            raise ZfnetError(f"there is no benchmark {name!r}; known are {', '.join(BENCHES)}")
    for name in options.what or BENCHES:
        measured = BENCHES[name]()
        print(f"{name} on {measured[0].provenance.device}")
        for record in measured:
            spread = f"(n = {record.n}, range {record.spread:.2f})"
            print(f"  {record.quantity:44}{record.value:8.2f} {record.unit} {spread}")
        if options.json:
            records.append(options.json, measured)


if __name__ == "__main__":
    sys.exit(main())

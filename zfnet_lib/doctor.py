"""What is installed and at hand, and the command that brings what is missing (`zfnet doctor`)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch
from jupyter_client.kernelspec import KernelSpecManager
from packaging.requirements import Requirement

from . import files
from .architecture import MINI
from .browser.atlas import MANIFEST, read_manifest
from .datasets import DATASETS, dataset_entry, dataset_folder, open_pack, whole_pack
from .datasets.pretrained import FETCHERS
from .files import PACKAGE, PROJECT, ZfnetError, data_root, results_root, stored_weights, weights_folders
from .machine import has_bf16, own_device
from .paper import records, table3_4_6, table5
from .paper.setting import DATA, PROFILES, training_of
from .paper.trainings import RETRAINED, SHIPPED, queue, state
from .training import recipe_named
from .weights import CheckpointError, load_network

Lines = Iterator[tuple[str, str]]
"""Things, and what is to be said of each."""

PROGRAMS = {
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "the tests that look at pages are skipped"),
    "npm": (("npm",), "pages load MathJax and the widget manager from their public copies"),
    "make": (("make",), "call jupyter-book and pytest by hand"),
    "git": (("git",), "records cannot name the commit that they come from"),
}
"""Programs beside Python: what each may be called, and what happens without it."""


def diagnose() -> Iterator[str]:
    """Yield a report line by line: what is here, and for what is missing the command that brings it."""
    sections = {"Packages": packages, "Programs": programs, "Machine": machine}
    sections |= {f"Data sets in {data_root()}": data_sets, "Weights": weights, "Atlases": atlases}
    sections |= {"Stored results": stored, "Integrity": integrity, "Profiles": profiles}
    for title, section in sections.items():
        yield title
        said = list(section())
        width = max([27, *(len(name) for name, _ in said)])
        yield from (f"  {name:{width}} {words}".rstrip() for name, words in said)


def packages() -> Lines:
    """Say which version of each dependency is installed; one that is missing or too old is named."""
    yield "python", ".".join(map(str, sys.version_info[:3]))
    try:
        needed = map(Requirement, requires("zfnet-lib") or ())
    except PackageNotFoundError:
        yield "zfnet-lib", f"not installed, only found in {PACKAGE.parent}: pip install it to see what it needs"
        return
    for wanted in needed:
        extra = next((part for part in ("test", "dev", "cluster") if part in str(wanted.marker)), "")
        bring = f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
        try:
            found = version(wanted.name)
            fits = wanted.specifier.contains(found, prereleases=True)
            yield wanted.name, found if fits else f"{found}, but {wanted.specifier} is needed: {bring}"
        except PackageNotFoundError:
            yield wanted.name, f"missing{' (optional)' * bool(extra)}: {bring}"


def programs() -> Lines:
    """Say which programs are here, and what happens without the others."""
    for name, (names, without) in PROGRAMS.items():
        yield name, next(filter(None, map(shutil.which, names)), f"missing: {without}")
    spec = KernelSpecManager().get_kernel_spec("python3")
    program = Path(spec.argv[0])  # a bare `python` is replaced by the interpreter that asks
    own = not program.is_absolute() or program.parent == Path(sys.executable).parent
    other = (
        f"{program}, as {spec.resource_dir} says: another environment's, which JupyterLab and papermill take; "
        f"zfnet run and the book do not; remove that folder, or take it off JUPYTER_PATH"
    )
    yield "kernel python3", "this environment's" if own else other


def machine() -> Lines:
    """Say what computes, with how much memory and disk, and whether it has bf16 instructions."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "device", ", ".join(gpus) or records.device_name(own_device())
    yield "cores", str(os.cpu_count())
    slow = "no: bfloat16, the recipes' precision, is emulated; --precision float32 may be many times faster"
    yield "bf16 instructions", {True: "yes", False: slow, None: "unknown"}[has_bf16()]
    yield "memory", f"{psutil.virtual_memory().total / 1e9:.0f} GB"
    disk = next(folder for folder in (data_root(), *data_root().absolute().parents) if folder.is_dir())
    yield "disk for data", f"{shutil.disk_usage(disk).free / 1e9:.0f} GB free"


def data_sets() -> Lines:
    """Say which data sets are fetched and packed."""
    for name, entry in DATASETS.items():
        missing, packed = _missing_data(name), []
        for split in entry.splits if entry.reader and not missing else ():
            with suppress(ZfnetError):
                packed.append(open_pack(name, split).split)
        rest = f"packed: {', '.join(packed)}" if packed else f"not packed: zfnet pack {name}"
        inside = "inside scikit-image and scikit-learn" if entry.made == "Photos" else "made in code"
        here = f"fetched, {rest}" if entry.reader else inside
        yield name, f"missing: {missing}" if missing else here


def weights() -> Lines:
    """Say which weights that a profile uses are here and whole."""
    for name in (*FETCHERS, *SHIPPED, *RETRAINED, training_of("paper", "zfnet").name):
        missing, ships = _missing_weights(name), name in RETRAINED and name in stored_weights()
        lacks = "ships, without the convolutions that it stands on" if ships else "missing"
        yield name, f"{lacks}: {missing}" if missing else "here"


def atlases() -> Lines:
    """Say which atlases are here."""
    places = PROJECT / "results", PROJECT / "atlas"
    folders = sorted(path.parent for place in places for path in place.rglob(MANIFEST))
    for folder in folders:
        try:
            manifest = read_manifest(folder)
            yield manifest["network"], f"over {manifest['pictures']}, in {folder}"
        except ZfnetError as error:
            yield folder.name, str(error)
    if not folders:
        yield "none", "zfnet atlas NETWORK --pictures DATASET writes one"


def stored() -> Lines:
    """Say what is stored of each profile, and how many trainings of the tables ran."""
    for profile in PROFILES:
        for folder in sorted(filter(Path.is_dir, results_root(profile).glob("*"))):
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            yield f"{profile}/{folder.name}", f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB"
    for profile in ("tiny", "paper"):
        runs = queue(DATA[profile], recipe_named(profile))
        ran = sum(state(run) in ("ran", "stored") for run in runs)
        rest = f"; the rest: zfnet train --table 2 --data {DATA[profile]} --recipe {profile}" * (ran < len(runs))
        yield f"{profile} trainings", f"{ran} of {len(runs)} ran{rest}"


def integrity() -> Lines:
    """Name what is not as it was stored, and what killed commands left; packs and downloads are read whole too."""
    expected = {one.url.rpartition("/")[2]: one.sha256 for entry in DATASETS.values() for one in entry.archives}
    lines = []
    for root in (data_root(), *map(results_root, PROFILES), PROJECT / "atlas"):
        for folder, folders, names in os.walk(root):
            for path in (Path(folder, name) for name in sorted(folders + names)):
                lines += [(path.name, said)] if (said := _left(path)) else []
                try:
                    files.check(path)
                    if path.parent == data_root() / "packs" and path.is_dir() and not path.name.startswith("."):
                        whole_pack(path)
                except ZfnetError as error:
                    lines.append((path.name, f"is damaged: {error} ({path.parent})"))
                known = path.parent.name == "downloads" and path.name in expected
                if known and files.sha256(path) != expected[path.name]:
                    lines.append((path.name, f"is not the archive that it should be: rm '{path}'"))
            folders[:] = [name for name in folders if Path(folder) != root or name not in DATASETS]
    yield from lines or [("everything stored", "is as it was written")]


def _left(path: Path) -> str:
    """Say what removes a thing that killed commands left; nothing of what a command works on."""
    lock, draft = path.suffix == ".lock", path.suffix == ".part" and path.parent == data_root() / "packs"
    place = path.with_name(path.stem[1:]) if lock else path.parent
    stray = path.name.startswith(".") and (lock or draft) and not files.is_busy(place)
    if not stray and not files.is_left(path, anywhere=True):
        return ""
    begun = "begun: `zfnet pack NAME` goes on with it; or" if draft else "left by a killed command:"
    return f"{begun} rm -r '{path}'"


def profiles() -> Lines:
    """Say of each profile whether its notebooks can run, and what computing its stored results anew would lack."""
    for profile in PROFILES.values():
        lacks = [*filter(None, (_missing_data(profile.pictures), _missing_weights(profile.network)))]
        yield profile.name, "lacks:" if lacks else "ready"
        yield from (("", command) for command in lacks)
        sources = table3_4_6.SOURCES[profile.name]
        data = [DATA[profile.name], *(source.data for source in sources), table5.TRIED[profile.name][2]]
        networks = [source.name for source in sources if source.name in (*FETCHERS, *SHIPPED)]
        needed = dict.fromkeys([*map(_missing_data, data), *map(_missing_weights, networks)])
        more = [command for command in needed if command and command not in lacks]
        if more:
            yield "", "to compute anew what is stored (--live), also:"
            yield from (("", command) for command in more)


def _missing_data(name: str) -> str:
    """Return what brings a data set, or nothing where it is here or is made in code."""
    entry = dataset_entry(name)
    if entry.reader is None or dataset_folder(name).is_dir():
        return ""
    return f"zfnet fetch {name}" + ("" if entry.archives and entry.archives[0].url else " --from ARCHIVE")


def _missing_weights(name: str) -> str:
    """Return what brings weights, or nothing where they are here and whole, or are trained on the spot."""
    if name == MINI.name:
        return ""
    for folder in weights_folders():
        with suppress(CheckpointError):
            load_network(folder / name)
            return ""
    if name in RETRAINED and name in stored_weights():
        return _missing_weights(RETRAINED[name].base)
    paper = training_of("paper", "zfnet")
    shipped = {name: f"zfnet ship {name}" for name in SHIPPED | RETRAINED}
    return ({paper.name: paper.command} | shipped).get(name, f"zfnet fetch {name}")

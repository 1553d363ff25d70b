"""Runs the notebooks as a batch by papermill, and publishes a batch as a book without running it again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from .. import files
from ..files import PROJECT, ZfnetError, chapters, notebook_names
from ..machine import cores, end_with_parent

BUILD = "from jupyter_book.cli.main import main; main()"
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
READ = {"str": str, "int": int, "float": float, "bool": lambda text: TRUTH[text.lower()]}


class Run(NamedTuple):
    """What became of one notebook of a batch: `done`, `failed`, or `kept` as nothing changed since it was done."""

    notebook: str
    state: str
    seconds: float
    path: Path
    error: str = ""


def state_hash() -> str:
    """Return a hash of what notebooks show beside their own code: library, stored results, data at hand."""
    results, data = files.results_root("tiny").parent, files.data_root()
    temporary = files.results_root("smoke")  # where one notebook leaves things for the next
    digest = hashlib.sha256(files.library_hash().encode())
    digest.update(str(sorted(path.name for path in data.glob("[!.]*"))).encode())
    for folder, pattern in ((results, "**/*"), (data / "weights", "*/meta.json"), (data / "overlap", "*.json")):
        for path in sorted(filter(Path.is_file, folder.glob(pattern))):
            if not path.is_relative_to(temporary):
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_notebooks(
    names: Iterable[str], profile: str, parameters: Mapping | None = None, *, live=False, out=None, jobs=1
) -> Iterator[Run]:
    """Execute notebooks, all by default, into `runs/<profile>`, and yield what became of each as it ends."""
    # What is wrong with the request is said before the first one starts; one that fails does not stop the others.
    if jobs < 1:
        raise ZfnetError(f"{jobs} notebooks at a time are impossible; give --jobs 1 or more")
    names, folder = list(names) or notebook_names(PROJECT), out or PROJECT / "runs" / profile
    values = _values(names, parameters or {}, {"profile": profile, "live": live})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _unwritable(folder, error) from error
    if live and profile == "smoke":
        shutil.rmtree(files.trained_root(), ignore_errors=True)
    state, source = state_hash(), PROJECT / "notebooks"
    asked = [(source / f"{name}.ipynb", folder / f"{name}.ipynb", values[name], state, not live) for name in names]
    return _executed(asked, min(jobs, len(names)))


def _values(names: list[str], given: Mapping, fixed: dict) -> dict[str, dict]:
    """Return for each notebook the typed values of its parameters that are set."""
    import papermill

    for option in fixed.keys() & given.keys():
        raise ZfnetError(f"set {option} by --{option}, not as a parameter")
    notebooks = notebook_names(PROJECT)
    for name in names:
        if name not in notebooks:
            raise ZfnetError(f"there is no notebook {name!r}; the notebooks are {', '.join(notebooks)}")
    declared = {name: papermill.inspect_notebook(PROJECT / "notebooks" / f"{name}.ipynb") for name in names}
    known = sorted(set().union(*declared.values()) - set(fixed))
    for parameter in given:
        if parameter not in known:
            listed = ", ".join(known)
            raise ZfnetError(f"no parameter {parameter!r} in {', '.join(names)}; the parameters are {listed}")
    values = {name: {} for name in names}
    for name, parameter in product(names, [*given, *fixed]):
        if parameter in declared[name]:
            kind, value = declared[name][parameter]["inferred_type_name"], (given | fixed)[parameter]
            text = value if isinstance(value, str) else ""  # notebooks run in a folder of their own
            if text.startswith("folder:"):
                value = f"folder:{files.expanded(text.removeprefix('folder:')).resolve()}"
            elif "/" in text and os.path.isdir(files.expanded(text)):  # noqa: PTH112 - a long text is no error
                value = str(files.expanded(text).resolve())
            with suppress(ValueError, KeyError):
                values[name][parameter] = READ[kind](value) if isinstance(value, str) else value
            typed = values[name].get(parameter)
            if type(typed).__name__ != kind and (kind, type(typed)) != ("float", int):
                raise ZfnetError(f"the parameter {parameter} of {name} takes {kind}, not {value!r}")
    return values


def _unwritable(folder: Path, error: OSError) -> ZfnetError:
    return ZfnetError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out")


def _executed(asked: list[tuple], jobs: int) -> Iterator[Run]:
    """Execute notebooks one after the other, or `jobs` at a time in processes, each on its share of the cores."""
    with own_kernel():
        if jobs == 1:
            yield from (_run(*one) for one in asked)
            return
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin_worker, (max(1, cores() // jobs),))
        try:
            for ended in as_completed([pool.submit(_run, *one) for one in asked]):
                yield ended.result()
        except BrokenProcessPool as error:
            raise ZfnetError(
                "a process that runs notebooks was killed, perhaps for want of memory; the same command with "
                "--jobs 1 needs less and goes on where this one stopped"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted batch begins no further notebook


def _begin_worker(cores: int) -> None:
    end_with_parent()  # its kernel then ends by itself
    os.environ["OMP_NUM_THREADS"] = str(cores)


def _run(source: Path, target: Path, values: dict, state: str, keep: bool) -> Run:
    """Execute one notebook into `target`, unless it stands there with the same fingerprint."""
    import nbformat

    # What is at the paths among its parameters counts too: pictures, weights. (Path's own methods fail on an
    # unknown user and on a long text.)
    texts = [value.removeprefix("folder:") for value in values.values() if value and isinstance(value, str)]
    paths = [source.parent / os.path.expanduser(text) for text in texts]  # noqa: PTH111
    stamps = [
        files.stamp(path, files.files_below(path)) if path.is_dir() else files.stamp(path.parent, [path.name])
        for path in filter(os.path.exists, paths)
    ]
    asked = json.dumps([source.read_text(), values, stamps, state], sort_keys=True)
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    if keep and _fingerprint_of(target) == fingerprint:
        return Run(source.stem, "kept", 0.0, target)
    target.unlink(missing_ok=True)  # a batch that is cut short must not leave an older result in its place
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as unfinished:
            executed = Path(unfinished) / target.name  # papermill asks for the ending .ipynb
            error = _execute(source, executed, values)
            notebook = nbformat.read(executed, as_version=4)
            notebook.metadata["zfnet"] = {"fingerprint": "" if error else fingerprint}
            tags = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
            if {"parameters", "injected-parameters"} <= tags.keys():  # the injected cell then looks like the other
                shown = [tag for tag in tags["parameters"].metadata.tags if tag != "parameters"]
                tags["injected-parameters"].metadata.tags += shown
            nbformat.write(notebook, executed)
            executed.replace(target)
    except OSError as full:
        raise _unwritable(target.parent, full) from full
    return Run(source.stem, "failed" if error else "done", time.perf_counter() - start, target, error)


def _execute(source: Path, executed: Path, values: dict) -> str:
    """Execute one notebook with a progress bar over its cells; return its error, empty when there is none."""
    import papermill

    # Nothing is left to tidy up, which would take a kernel seconds. Newer kernels warn at every start that TCP is
    # not encrypted.
    quick = {"shutdown_kernel": "immediate", "extra_arguments": ["--log-level=ERROR"]}
    bar = {"desc": source.stem, "mininterval": 1}
    try:
        papermill.execute_notebook(
            source, executed, values, kernel_name="python3", cwd=source.parent, progress_bar=bar, **quick
        )
    except papermill.PapermillExecutionError as error:
        return f"cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())}"
    except RuntimeError as error:  # the kernel died or did not start
        return f"{type(error).__name__}: {error}"
    return ""


def _fingerprint_of(executed: Path) -> str:
    """Return the fingerprint of a notebook that finished; empty for a failed, missing or damaged one."""
    try:
        return json.loads(executed.read_text())["metadata"]["zfnet"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@contextmanager
def own_kernel() -> Iterator[None]:
    """Let `python3` name this interpreter's kernel, here and in processes begun here, whatever is registered so."""
    from ipykernel.kernelspec import write_kernel_spec

    roots = {name: os.environ[name] for name in ("ZFNET_DATA", "ZFNET_RESULTS") if os.environ.get(name)}
    settled = {name: str(files.expanded(path).absolute()) for name, path in roots.items()}  # kernels run elsewhere
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory(prefix="zfnet-kernel-") as folder:
        write_kernel_spec(Path(folder, "kernels/python3"))
        path = os.pathsep.join(filter(None, (folder, before)))  # Jupyter looks here first
        os.environ.update(settled, JUPYTER_PATH=path)
        try:
            yield
        finally:
            os.environ.update(roots)
            os.environ.pop("JUPYTER_PATH") if before is None else os.environ.update(JUPYTER_PATH=before)


def summary(runs: list[Run]) -> str:
    """Return a batch as a table of text: notebook, state, seconds, error."""
    width = max([8, *(len(run.notebook) for run in runs)])
    rows = [f"{run.notebook:{width}}  {run.state:6}  {run.seconds:7.1f}  {run.error}".rstrip() for run in runs]
    return "\n".join([f"{'notebook':{width}}  state   seconds", *rows])


def publish_book(profile: str, out: Path | None = None) -> Path:
    """Build the book, in a folder `book` beside the executed notebooks, from these; return its first page."""
    import yaml

    folder, pages = out or PROJECT / "runs" / profile, chapters(PROJECT)
    missing = [name for name in pages if not _fingerprint_of(folder / f"{name}.ipynb")]
    if missing:
        command = f"zfnet run {' '.join(missing)} --profile {profile}" + (f" --out {out}" if out else "")
        raise ZfnetError(f"{folder} lacks {', '.join(missing)} (not run, or failed); run first: {command}")
    config = yaml.safe_load((PROJECT / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"  # `auto` would run cells without output
    stage = folder / "book"
    with files.replacing(stage) as fresh:
        (fresh / "notebooks").mkdir(parents=True)
        (fresh / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True))
        shutil.copy(PROJECT / "_toc.yml", fresh)
        shutil.copytree(PROJECT / "book", fresh / "book", ignore=shutil.ignore_patterns("__pycache__"))
        for name in pages:
            shutil.copy(folder / f"{name}.ipynb", fresh / "notebooks")
    command = [sys.executable, "-c", BUILD, "build", str(stage), "-W", "--keep-going"]
    if subprocess.run(command, check=False).returncode:
        raise ZfnetError(f"the book in {stage} was built with the warnings above; mend them and publish again")
    return stage / "_build/html/index.html"

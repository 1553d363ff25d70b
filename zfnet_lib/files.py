"""Where things live, and the one way in which files are written, locked, checked and cached.

What is stored has its SHA-256 beside it, in `NAME.sha256` or in a folder's `SHA256SUMS`; what has none is believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from safetensors import SafetensorError

SUMS = "SHA256SUMS"
PACKAGE = Path(__file__).resolve().parent
_around = (PACKAGE.parent, Path.cwd(), *Path.cwd().parents)
PROJECT = next((folder for folder in _around if (folder / "notebooks/fig1.ipynb").exists()), Path.cwd())
"""Where `notebooks/`, `book/`, `results/` and `data/` lie: the checkout around this package, or else around the
current folder, or else the current folder; never beside installed packages."""

# What is being written is called .NAME.MACHINE.PID-TOKEN.part, and the folder that it replaces ends in .old. The
# token tells a process from an earlier one of the same number, as the processes of restarted containers have.
_LEFT = re.compile(r"\.(?P<name>.+?)(\.(?P<machine>[^.]+))?\.(?P<pid>\d+)(-(?P<token>\w+))?\.(part|old)", re.DOTALL)
_MACHINE, _TOKEN = platform.node().partition(".")[0] or "machine", os.urandom(4).hex()


class ZfnetError(Exception):
    """An error that the user can repair; the command line prints it as one sentence and exits with 1."""


class DamagedError(ZfnetError, ValueError):
    """Something stored that is not what was written."""


class UnwritableError(ZfnetError):
    """A place that cannot be written; whoever only keeps a cache there goes on without."""


def data_root() -> Path:
    """Return the folder of data sets, packs, weights and checkpoints: `ZFNET_DATA`, or `data/` in the checkout."""
    return expanded(os.environ.get("ZFNET_DATA") or PROJECT / "data")


def results_root(profile: str) -> Path:
    """Return the folder of a profile's stored records, weights and arrays; `ZFNET_RESULTS` names another."""
    usual = PROJECT / ("runs/results" if profile == "smoke" else "results")  # those of smoke are never committed
    return expanded(os.environ.get("ZFNET_RESULTS") or usual) / profile


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ZfnetError(f"{path}: there is no such user here; write the folder out") from None


FETCHED = ("alexnet-imagenet", "vgg16-imagenet")  # weights that `zfnet fetch` brings
META = "meta.json"  # what tells a folder of weights


def weights_folders() -> tuple[Path, ...]:
    """Return the folders that are searched for named weights: fetched or trained ones, then shipped ones."""
    return data_root() / "weights", PROJECT / "results" / "tiny" / "weights"


def stored_weights() -> dict[str, Path]:
    """Return the folders of all weights that can be loaded by name; of equal names the first counts."""
    found = (path.parent for folder in weights_folders()[::-1] for path in folder.glob(f"[!.]*/{META}"))
    return dict(sorted({folder.name: folder for folder in found}.items()))


def notebook_names(project: Path = PROJECT) -> list[str]:
    """Return the names of all notebooks, those of the book first and in its order."""
    found, pages = {path.stem for path in (project / "notebooks").glob("*.ipynb")}, chapters(project)
    return [name for name in pages if name in found] + sorted(found - set(pages))


def chapters(project: Path = PROJECT) -> list[str]:
    """Return the names of the book's notebooks, in its order."""
    contents = project / "_toc.yml"
    if not contents.exists():
        home = "they and the book are part of a checkout of the repository; run this command in one"
        raise ZfnetError(f"there are no notebooks in {project}: {home}")
    return re.findall(r"file: notebooks/(\S+)", contents.read_text())


def trained_root() -> Path:
    """Return where the networks lie that `smoke` trained on the spot, for the next notebook of the same code."""
    return results_root("smoke") / "trained"


def library_files() -> list[Path]:
    """Return the files that this package is made of: what it computes depends on them."""
    return sorted(path for path in PACKAGE.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)


def library_hash() -> str:
    """Return a hash of the files that this package is made of."""
    contents = (str(path.relative_to(PACKAGE)).encode() + path.read_bytes() for path in library_files())
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder, relative to it and sorted; links are followed, but to no place twice."""
    seen, found = {folder.resolve(), *folder.resolve().parents}, []
    for place, folders, files in os.walk(folder, followlinks=True):
        inner = Path(place).relative_to(folder).as_posix()
        found += [("" if inner == "." else f"{inner}/", file) for file in files]
        real = {name: Path(place, name).resolve() for name in sorted(folders)}
        folders.clear()
        for name, target in real.items():
            if target not in seen:
                seen.add(target)
                folders.append(name)
    return [inner + file for inner, file in sorted(found)]


def stamp(folder: Path, files: Iterable[str]) -> str:
    """Return a hash of the names, sizes and times of change of some files: it differs when one was replaced."""
    digest = hashlib.sha256()
    for file in files:
        try:
            state = (folder / file).stat()
            found = f"{file} {state.st_size} {state.st_mtime_ns}\n"
        except OSError:
            found = f"{file} cannot be read\n"
        digest.update(found.encode(errors="surrogateescape"))  # names need not be UTF-8
    return digest.hexdigest()[:16]


def notice(sentence: str) -> None:
    """Say what does not stop a result: that a cache is damaged, or cannot be written."""
    warnings.warn(sentence, stacklevel=3)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on any error: all or nothing."""
    temporary = _beside(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        yield temporary
        put(temporary, path)
    except (OSError, SafetensorError) as error:
        # Errors of the place that is written to, not of what is read meanwhile, or of a network.
        full = isinstance(error, SafetensorError) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        name = getattr(error, "filename", None)
        place = None if full or name is None else Path(os.fsdecode(name))
        if full or (place and (place in (path, *path.parents) or place.is_relative_to(temporary))):
            raise _unwritable(path, error) from error
        raise
    finally:
        _settle(temporary)


def put(temporary: Path, path: Path) -> None:
    """Rename what is written to its place; after a kill half-way `is_there` or the next write puts the old back."""
    aside = _beside(path, "old")
    try:
        if temporary.is_dir() and path.is_dir():
            path.rename(aside)
        temporary.replace(path)
    finally:
        _settle(aside)


@contextmanager
def storing(path: Path) -> Iterator[Path]:
    """Write as `replacing` does, and beside it the hash by which `check` notices every changed byte."""
    with replacing(path) as temporary:
        yield temporary
        if temporary.is_dir():
            seal(temporary)
        else:  # a kill before the file is renamed must damage neither, so the hash of the old one is kept too
            versions = filter(Path.is_file, (path, temporary))
            with replacing(_sums(path)) as sums:
                sums.write_text("".join(f"{sha256(file)}  {path.name}\n" for file in versions))


def seal(folder: Path, *names: str) -> None:
    """Write the hashes of some files of a folder, of all by default; `storing` does so itself."""
    names = names or tuple(name for name in files_below(folder) if name != SUMS)
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def check(path: Path, *names: str) -> None:
    """Compare a stored file, or all or some files of a folder, with their hashes; `DamagedError` names it."""
    if not is_there(path) or not _sums(path).is_file():
        return
    lines = _sums(path).read_text(errors="replace").splitlines()
    if not lines:
        raise DamagedError(f"{_sums(path).name} is empty")
    for name in names or {line.partition("  ")[2]: None for line in lines}:
        file = (path if path.is_dir() else path.parent) / name
        if not file.is_file():
            raise DamagedError(f"{name} is missing")
        if f"{sha256(file)}  {name}" not in lines:
            raise DamagedError(f"the SHA-256 of {name} differs from the one in {_sums(path).name}")


def is_there(path: Path) -> bool:
    """Tell whether something stored is there; a folder whose replacement was killed is put back first."""
    if not path.exists():
        sweep(path.parent)
    return path.exists()


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, and put back what they had moved aside."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if is_left(path)]:
            _settle(path)


def is_left(path: Path, anywhere: bool = False) -> bool:
    """Tell whether a path was left by a dead process of this machine, or of any machine or earlier version."""
    left = _LEFT.fullmatch(path.name)
    if not left or not (anywhere or left["machine"] == _MACHINE):
        return False
    pid = int(left["pid"])
    return left["token"] != _TOKEN if pid == os.getpid() else not psutil.pid_exists(pid)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; the others wait here until it has finished, or died."""
    lock = _lock(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _unwritable(folder, error) from error
    sweep(folder.parent)  # before anybody asks how much room there is
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()  # who waits notices, and makes a new one
        lock.release()


def is_busy(folder: Path) -> bool:
    """Tell whether a process is `alone` in a folder at this moment."""
    lock = _lock(folder)
    try:
        if Path(lock.lock_file).exists():
            lock.acquire(timeout=0)
            lock.release()
    except OSError as error:  # where a lock cannot be written nobody works
        return isinstance(error, Timeout)
    return False


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{_MACHINE}.{os.getpid()}-{_TOKEN}.{kind}")


def _settle(left: Path) -> None:
    """Put back what was moved aside and has no successor; remove everything else that a write left."""
    named = _LEFT.fullmatch(left.name)
    assert named
    target = left.with_name(named["name"])
    with suppress(OSError):  # where nothing can be written nothing was left
        if left.suffix == ".old" and left.exists() and not target.exists():
            left.rename(target)
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _sums(path: Path) -> Path:
    return path / SUMS if path.is_dir() else path.with_name(f"{path.name}.sha256")


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)


def _unwritable(path: Path, error: Exception) -> UnwritableError:
    reason = getattr(error, "strerror", None) or str(error)
    return UnwritableError(f"cannot write {path}: {reason}; free space or choose another folder")

"""Where things live, and how files are written so that nothing half-written survives."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

PACKAGE = Path(__file__).resolve().parent
"""The folder of this package."""


def _project() -> Path:
    """Return the checkout around this package, else that around the current folder, else the current folder."""
    if (PACKAGE.parent / "notebooks/fig1.ipynb").exists():
        return PACKAGE.parent
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "notebooks/fig1.ipynb").exists()), here)


PROJECT = _project()
"""Where `notebooks/`, `book/`, `results/` and `data/` lie: never beside installed packages."""


class ZfnetError(Exception):
    """An error that the user can repair; the command line prints it as one sentence and exits with 1."""


def data_root() -> Path:
    """Return the folder of data sets, packs, weights and checkpoints.

    The environment variable `ZFNET_DATA` names it; without one it is `data/` in the checkout, or in the current
    folder where the package was installed without one.
    """
    return _folder_named("ZFNET_DATA") or PROJECT / "data"


def results_root(profile: str) -> Path:
    """Return the folder of stored records, weights and arrays of one profile.

    Results of `smoke` are computed anew in every run and never committed; `ZFNET_RESULTS` names
    another folder for any profile.
    """
    chosen = _folder_named("ZFNET_RESULTS")
    return (chosen or PROJECT / ("runs/results" if profile == "smoke" else "results")) / profile


def _folder_named(variable: str) -> Path | None:
    """Return the folder that an environment variable names; None where it is not set."""
    given = os.environ.get(variable)
    return expanded(given) if given else None


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by the home folder.

    Raises:
        ZfnetError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ZfnetError(f"{path}: there is no such user here; write the folder out") from None


def spot_root() -> Path:
    """Return where the networks lie that `smoke` trained on the spot, for the next notebook of the same code."""
    return results_root("smoke") / "trained"


def library_files() -> list[Path]:
    """Return the files that this package is made of: what it computes depends on them."""
    found = PACKAGE.rglob("*.*")
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def library_hash() -> str:
    """Return a hash of the files that this package is made of."""
    digest = hashlib.sha256()
    for path in library_files():
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any error.

    A reader therefore sees the old file or the whole new one, never a part. Folders work as well as files.

    Raises:
        ZfnetError: The folder cannot be written or the disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "number.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("7")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('7', 1)
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        if not _about_writing(error, path, temporary):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ZfnetError(f"cannot write {path}: {reason}; free space or choose another folder") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        elif path.parent.is_dir():
            temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; the others wait here until it has finished, or died."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_busy(folder: Path) -> bool:
    """Tell whether a process is `alone` in a folder at this moment."""
    if not folder.is_dir():
        return False
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(lock)


def _about_writing(error: Exception, path: Path, temporary: Path) -> bool:
    """Tell errors of the place that is written to from those of what is read, or of a network."""
    if isinstance(error, SafetensorError) or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if error.filename is None:
        return False
    place = Path(os.fsdecode(error.filename))
    return place == path or place in path.parents or place.is_relative_to(temporary)

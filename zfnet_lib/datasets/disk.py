"""Room on the disk, and archives unpacked onto it safely."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from .samples import DataError

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    NotImplementedError,  # a way of compressing that Python does not know
)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Check that a disk has room before anything is written to it.

    Args:
        folder: Where it will be written; it need not exist yet.
        needed: Bytes.
        what: The subject of the error's sentence.

    Raises:
        DataError: The disk has less free.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{what} needs {tqdm.format_sizeof(needed, 'B')} and {place} has {tqdm.format_sizeof(free, 'B')} free; "
            "free space, or name another folder in ZFNET_DATA"
        )


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> None:
    """Unpack a tar archive of any compression, or a zip, into a folder.

    Only plain files are ever written, with the names they have inside the folder and no other rights or owners.

    Args:
        archive: The file to unpack.
        folder: Where to; a fresh folder, which the caller removes on errors.
        progress: Show a progress bar.

    Raises:
        DataError: The archive is damaged, or holds a link, a device or a path that leaves the folder.
    """
    files = _zip_files(archive) if zipfile.is_zipfile(archive) else _tar_files(archive)
    try:
        for name, stream in tqdm(files, f"unpacking {archive.name}", unit=" files", disable=not progress):
            _check_member(archive, name, stream)
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file)
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged ({error}); bring it again") from error


def _check_member(archive: Path, name: str, stream: IO[bytes] | None) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise DataError(f"{archive} holds {name!r}, a path that leaves its folder; it was not unpacked")
    if stream is None:
        raise DataError(f"{archive} holds {name!r}, a link or device; only plain files are unpacked")


def _tar_files(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield name and content of what is no folder; content None stands for links and devices."""
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if not member.isdir():
                yield member.name, tar.extractfile(member) if member.isreg() else None


def _zip_files(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield name and content of what is no folder; content None stands for links and devices."""
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            if member.flag_bits & 1:
                raise DataError(f"{archive} is encrypted; bring it without a password")
            if not member.is_dir():
                plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
                yield member.filename, content.open(member) if plain else None

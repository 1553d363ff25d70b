"""Fetching data sets: from the official address with resume, or from an archive at hand; unpacked safely."""

from __future__ import annotations

import http.client
import json
import lzma
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..files import alone, data_root, is_there, replacing, sha256
from .samples import DataError
from .table import Archive, DatasetEntry, dataset_entry, dataset_folder, read_index

# What damaged archives raise; the last four where Python does not know how one is compressed, or where a file and a
# folder have one name.
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)
DAMAGE += (NotImplementedError, FileExistsError, NotADirectoryError, IsADirectoryError)
TIMEOUT = 60  # seconds without a byte after which a download counts as interrupted


def fetch_dataset(name: str, source: Path | None = None) -> Path:
    """Bring a data set into the data folder and return the folder it lies in; one that is there is left alone.

    It is unpacked from an archive at hand (`source`; of `imagenet` the folder with its three official archives), or
    else from the official one, which is downloaded. What goes wrong is a `DataError`.
    """
    entry, target = dataset_entry(name), data_root() / name
    if is_there(target):
        if not dataset_folder(name).is_dir():
            raise DataError(f"{target} is not laid out as {entry.layout}; move it away and run: zfnet fetch {name}")
        return dataset_folder(name)
    with alone(target):
        if not is_there(target):  # nor has a process that was waited for brought it
            archive, path = _archive_of(entry, source)
            require_room(target, entry.room, f"unpacking {name}")
            with replacing(target) as temporary:  # the data set is there as a whole or not at all
                (_arrange_imagenet if name == "imagenet" else _install)(entry, archive, path, temporary)
                for split, expected in (archive.images or entry.images).items():
                    count = len(read_index(entry, temporary / entry.folder, split).labels)
                    if count != expected:
                        raise DataError(
                            f"{name} {split} has {count} pictures instead of {expected}; bring the archive again"
                        )
                origin = {"archive": archive.title, "sha256": archive.sha256, "licence": entry.licence}
                (temporary / "origin.json").write_text(json.dumps(origin, indent=1) + "\n")
            if source is None:
                path.unlink()
    return dataset_folder(name)


def _archive_of(entry: DatasetEntry, source: Path | None) -> tuple[Archive, Path]:
    """Return an archive of a data set and where it lies: the one at hand, known by its hash, or downloaded."""
    name = entry.name
    if name == "imagenet":
        files = _official_files()
        missing = [file for file in files if source is None or not (source / file).is_file()]
        if missing:
            raise DataError(
                f"imagenet needs {', '.join(missing)} from {entry.source} (free account); "
                "put them into one folder and run: zfnet fetch imagenet --from FOLDER"
            )
        return Archive("the official archives", ""), source
    if not entry.archives:
        raise DataError(f"{name} needs no fetching: its pictures are {entry.layout}")
    if source is None:
        archive, folder = entry.archives[0], data_root() / "downloads"
        if not archive.url:
            raise DataError(f"{name} has no public address; give its archive with: zfnet fetch {name} --from FILE")
        path = folder / archive.url.rpartition("/")[2]
        here = sum(file.stat().st_size for file in folder.glob(f"{path.name}*"))  # of it, or of its first part
        require_room(folder, max(archive.size - here, 0) + entry.room, f"fetching {name}")
        return archive, download(archive, path)
    if not source.is_file():
        raise DataError(f"there is no archive {source}; give the path of a file after --from")
    digest = sha256(source)
    for archive in entry.archives:
        if archive.sha256 == digest:
            return archive, source
    known = "; ".join(f"{archive.title} ({archive.sha256[:12]}…)" for archive in entry.archives)
    raise DataError(
        f"{source} (sha256 {digest[:12]}…) is no known archive of {name}, which are: {known}; "
        f"unpack it yourself to {data_root() / name} as {entry.layout} if you trust it"
    )


def _install(entry: DatasetEntry, archive: Archive, path: Path, temporary: Path) -> None:
    """Unpack an archive, and move the data set's folder, however deep it lies, to its place."""
    unpacked, folder = temporary / "unpacked", temporary / entry.folder
    unpack(path, unpacked)
    if archive.inner:
        unpack(next(unpacked.rglob(archive.inner)), unpacked)
    found = [path for path in unpacked.rglob(folder.name) if path.is_dir()]
    if not found:
        raise DataError(f"the archive of {entry.name} has no folder {folder.name}; bring another archive")
    folder.parent.mkdir(parents=True, exist_ok=True)
    min(found, key=lambda path: len(path.parts)).rename(folder)
    shutil.rmtree(unpacked)


def _arrange_imagenet(entry: DatasetEntry, archive: Archive, path: Path, temporary: Path) -> None:
    """Let torchvision check and arrange the official archives, which need an account to download."""
    from torchvision.datasets import ImageNet

    temporary.mkdir()
    for file in _official_files():
        (temporary / file).symlink_to((path / file).resolve())
    try:
        for split in entry.images:
            ImageNet(temporary, split)
    except RuntimeError as error:
        raise DataError(f"{path} holds a damaged archive: {error}") from error
    for file in _official_files():
        (temporary / file).unlink()


def _official_files() -> list[str]:
    from torchvision.datasets.imagenet import ARCHIVE_META

    return [file for file, _ in ARCHIVE_META.values()]


def require_room(folder: Path, needed: int, what: str) -> None:
    """Check that a disk has so many bytes free before anything is written to it."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DataError(
            f"{what} needs {tqdm.format_sizeof(needed, 'B')} and {place} has {tqdm.format_sizeof(free, 'B')} free; "
            "free space, or name another folder in ZFNET_DATA"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of any compression, or a zip, into a fresh folder, and nothing outside it."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("this Python cannot unpack archives safely; take 3.11.4 or a later one")
    bar = partial(tqdm, desc=f"unpacking {archive.name}", unit=" files")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                if any(member.flag_bits & 1 for member in content.infolist()):
                    raise DataError(f"{archive} is encrypted; bring it without a password")
                for member in bar(content.infolist()):
                    content.extract(member, folder)
        else:
            with tarfile.open(archive, "r|*") as tar:
                tar.extractall(folder, bar(tar), filter="data")
    except tarfile.FilterError as error:
        raise DataError(f"{archive} must not be unpacked: {error}") from error
    except DAMAGE as error:
        raise DataError(f"{archive} is damaged ({error}); bring it again") from error


def download(archive: Archive, path: Path) -> Path:
    """Download an archive to `path`, continuing where an earlier attempt stopped; one that is here is checked.

    Until it is whole and checked it is called `<name>.part`. What came is kept when it stops, and removed where
    its hash is wrong.
    """
    if path.exists():
        if sha256(path) == archive.sha256:
            return path
        path.unlink()
    part = path.with_name(f"{path.name}.part")
    start = part.stat().st_size if part.exists() else 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if start < archive.size:
            request = urllib.request.Request(archive.url, headers={"Range": f"bytes={start}-"} if start else {})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                start = start if response.status == http.client.PARTIAL_CONTENT else 0  # or it begins anew
                whole = start + int(response.headers.get("Content-Length") or 0)
                bar = tqdm(desc=path.name, total=whole or None, initial=start, unit="B", unit_scale=True)
                with part.open("ab" if start else "wb") as file, bar:
                    while block := response.read(1 << 20):
                        bar.update(file.write(block))
            if part.stat().st_size < whole:
                raise http.client.IncompleteRead(b"", whole - part.stat().st_size)
    except (OSError, http.client.HTTPException) as error:
        come = part.stat().st_size if part.exists() else 0
        raise DataError(
            f"the download of {archive.url} stopped after {come / 1e6:.1f} MB ({error}); "
            "run the same command again to continue, or bring the file another way and give it with --from FILE"
        ) from error
    if sha256(part) != archive.sha256:
        part.unlink()
        raise DataError(f"{archive.url} gave a file with another hash than the table's; it was removed, try again")
    return part.rename(path)

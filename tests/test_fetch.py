"""Fetching: downloads that continue, archives at hand, and archives that must not be unpacked."""

import hashlib
import io
import json
import stat
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from layouts import class_folders, tiny_imagenet, write_picture
from torchvision.datasets import imagenet

from zfnet_lib.datasets import DATASETS, Archive, DataError, fetch_dataset, open_dataset
from zfnet_lib.datasets.fetch import download, unpack


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(folder, path, mode="w:xz"):
    with tarfile.open(path, mode) as tar:
        tar.add(folder, folder.name)
    return path


def tar_bytes(files, mode="w"):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as tar:
        for name, content in files.items():
            tar.addfile(member(name, size=len(content)), io.BytesIO(content))
    return held.getvalue()


def member(name, **changes):
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


@pytest.fixture
def tiny(data, tmp_path, monkeypatch):
    """A small Tiny-ImageNet as an archive that the table knows, and what changes its entry."""
    tiny_imagenet(tmp_path / "source/tiny-imagenet-200")
    path = tar_of(tmp_path / "source/tiny-imagenet-200", tmp_path / "tiny.tar.xz")

    def expect(**changes):
        archive = Archive("a small one", sha256(path.read_bytes()), images={"train": 6, "val": 3})
        entry = replace(DATASETS["tiny-imagenet"], room=1, archives=(replace(archive, **changes),))
        monkeypatch.setitem(DATASETS, "tiny-imagenet", entry)

    expect()
    return path, expect


@pytest.fixture
def server():
    """Serves `content`; `limit` bytes a request at most, and without Range where `ranges` is False."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.headers.get("Range"))
            start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and state.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            self.wfile.write(state.content[start : start + state.limit])

        def log_message(self, *args):
            pass

    state = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.content, state.limit, state.ranges, state.requests = b"", 10**9, True, []
    state.url = f"http://127.0.0.1:{state.server_port}/tiny.tar.xz"
    thread = threading.Thread(target=state.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.shutdown()
    thread.join()
    state.server_close()


def test_an_archive_at_hand(data, tiny):
    path, _ = tiny
    folder = fetch_dataset("tiny-imagenet", path)
    assert folder == data / "tiny-imagenet/tiny-imagenet-200"
    train = open_dataset("tiny-imagenet", "train")
    assert len(train) == 6 and train[0].picture.shape == (3, 24, 30) and train.origin == "a small one"
    assert json.loads((data / "tiny-imagenet/origin.json").read_text())["sha256"] == sha256(path.read_bytes())
    path.unlink()
    assert fetch_dataset("tiny-imagenet", path) == folder
    assert [entry.name for entry in data.iterdir()] == ["tiny-imagenet"]


def test_a_folder_of_another_layout_is_not_taken_for_the_data_set(data, tiny):
    (data / "tiny-imagenet/train").mkdir(parents=True)
    sentence = r"is not laid out as tiny-imagenet-200/.*; move it away and run: zfnet fetch"
    with pytest.raises(DataError, match=sentence):
        fetch_dataset("tiny-imagenet", tiny[0])


def test_archives_of_something_else_leave_nothing(data, tmp_path, tiny, monkeypatch):
    path, expect = tiny
    class_folders(tmp_path / "birds", ["owl"], 1)
    other = tar_of(tmp_path / "birds", tmp_path / "birds.tar", "w")

    def refused(source, sentence):
        with pytest.raises(DataError, match=sentence):
            fetch_dataset("tiny-imagenet", source)
        assert list(data.iterdir()) == []

    refused(Path("/no/where"), "there is no archive /no/where; give the path of a file after --from")
    refused(other, r"birds.tar \(sha256 .*is no known archive of tiny-.*: a small one")
    expect(images={"train": 7})
    refused(path, "tiny-imagenet train has 6 pictures instead of 7; bring the archive again")
    expect(sha256=sha256(other.read_bytes()))
    refused(other, "has no folder tiny-imagenet-200")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 0}))
    refused(other, r"unpacking tiny-imagenet needs 1.00B and .* has 0.00B free; free space")


def test_of_two_fetches_at_once_one_downloads_what_is_left_and_one_waits(data, tiny, server, monkeypatch):
    path, expect = tiny
    server.content = path.read_bytes()
    expect(url=server.url, size=len(server.content))
    (data / "downloads").mkdir()
    (data / "downloads/tiny.tar.xz.part").write_bytes(server.content[:-9])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 10}))  # 1 of them to unpack
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(fetch_dataset, ["tiny-imagenet"] * 2))
    assert folders == [data / "tiny-imagenet/tiny-imagenet-200"] * 2
    assert server.requests == [f"bytes={len(server.content) - 9}-"]
    assert sorted(entry.name for entry in data.iterdir()) == ["downloads", "tiny-imagenet"]
    assert len(open_dataset("tiny-imagenet")) == 3 and list((data / "downloads").iterdir()) == []


def test_a_download_continues_where_it_stopped(tmp_path, server):
    server.content, server.limit = np.random.default_rng(0).bytes(5000), 2000
    archive = Archive("bytes", sha256(server.content), url=server.url, size=5000)
    path = tmp_path / "downloads/bytes.tar"
    for _ in range(2):
        with pytest.raises(DataError, match=r"after 0.0 MB .*run the same command again to continue"):
            download(archive, path)
        assert not path.exists()
    assert download(archive, path).read_bytes() == server.content
    assert server.requests == [None, "bytes=2000-", "bytes=4000-"]
    assert [file.name for file in path.parent.iterdir()] == ["bytes.tar"]


def test_what_is_here_is_believed_only_with_its_hash_and_a_server_may_begin_anew(tmp_path, server):
    server.content, server.ranges = b"0123456789" * 100, False
    archive, file = Archive("bytes", sha256(server.content), url=server.url, size=1000), tmp_path / "file"
    for content, asked in ((server.content[:-1] + b"x", 1), (server.content, 1)):
        file.write_bytes(content)
        assert download(archive, file).read_bytes() == server.content and len(server.requests) == asked
    file.unlink()
    (tmp_path / "file.part").write_bytes(b"xyz")
    assert download(archive, file).read_bytes() == server.content
    with pytest.raises(DataError, match="with another hash than the table's; it was removed, try again"):
        download(replace(archive, sha256="0" * 64), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("photos", "photos needs no fetching: its pictures are inside the installed packages"),
        ("shapes", "shapes needs no fetching: its pictures are drawn on demand"),
        ("mini-imagenet-novel", "mini-imagenet-novel has no public address; .* --from FILE"),
        ("imagenet", r"imagenet needs ILSVRC2012_img_train.tar, .* from https.*--from FOLDER"),
        ("nothing", "there is no data set 'nothing'"),
    ],
)
def test_what_cannot_be_fetched(data, name, sentence):
    with pytest.raises(DataError, match=sentence):
        fetch_dataset(name)


NOISE = {"noise": np.random.default_rng(0).bytes(50_000)}
BAD = {
    "bad.tar must not be unpacked: '../evil' would be .* outside the destination": member("../evil"),
    "outside the destination": member("a/../../evil"),
    "'link' is a link to an absolute path": member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "'up' would link to .* outside": member("up", type=tarfile.SYMTYPE, linkname="../../secret"),
    "'hard' would link to .* outside": member("hard", type=tarfile.LNKTYPE, linkname="../secret"),
    "'device' is a special file": member("device", type=tarfile.CHRTYPE),
}


@pytest.mark.parametrize("sentence", BAD)
def test_tar_archives_that_must_not_be_unpacked(tmp_path, sentence):
    with tarfile.open(tmp_path / "bad.tar", "w:gz") as tar:
        tar.addfile(member("good"))
        tar.addfile(BAD[sentence])
    with pytest.raises(DataError, match=sentence):
        unpack(tmp_path / "bad.tar", tmp_path / "inside/folder")
    assert not (tmp_path / "evil").exists() and not (tmp_path / "inside/evil").exists()


@pytest.mark.parametrize("content", [tar_bytes(NOISE, f"w:{kind}")[:20_000] for kind in ("xz", "gz", "")] + [b"no"])
def test_damaged_archives(tmp_path, content):
    (tmp_path / "some.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"some.tar is damaged \(.*\); bring it again"):
        unpack(tmp_path / "some.tar", tmp_path / "inside")


def zip_of(path, *members, content="hello"):
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, content)
    return path


def test_zip_archives(tmp_path):
    path = zip_of(tmp_path / "some.zip", "a/b.txt")
    unpack(path, tmp_path / "good")
    assert (tmp_path / "good/a/b.txt").read_text() == "hello"
    content = bytearray(path.read_bytes())
    content[6] |= 1  # encrypted, in the member's header, and in the table of contents
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"some.zip is encrypted; bring it without a password$"):
        unpack(path, tmp_path / "inside")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_of(path, link, "../evil", "/tmp/evil", content="/etc/passwd")
    unpack(path, tmp_path / "bad/folder")
    inside = {file.relative_to(tmp_path / "bad/folder") for file in (tmp_path / "bad").rglob("*") if file.is_file()}
    assert inside == {Path("link"), Path("evil"), Path("tmp/evil")}
    assert not (tmp_path / "bad/folder/link").is_symlink()


def test_an_archive_inside_the_archive(data, tmp_path, monkeypatch):
    """The official Caltech-101 zip holds a tar.gz that holds the pictures."""
    class_folders(tmp_path / "101_ObjectCategories", ["BACKGROUND_Google", "ant"], 2)
    inner = tar_of(tmp_path / "101_ObjectCategories", tmp_path / "101_ObjectCategories.tar.gz", "w:gz")
    path = tmp_path / "caltech-101.zip"
    with zipfile.ZipFile(path, "w") as content:
        content.write(inner, "caltech-101/101_ObjectCategories.tar.gz")
        content.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", "x")
    archive = replace(DATASETS["caltech-101"].archives[0], sha256=sha256(path.read_bytes()), images={"all": 2})
    monkeypatch.setitem(DATASETS, "caltech-101", replace(DATASETS["caltech-101"], room=1, archives=(archive,)))
    assert fetch_dataset("caltech-101", path).name == "101_ObjectCategories"
    assert open_dataset("caltech-101", "all").classes == ("ant",)
    assert sorted(entry.name for entry in (data / "caltech-101").iterdir()) == ["caltech101", "origin.json"]


def test_imagenets_official_archives(data, tmp_path, monkeypatch):
    """Small archives in the official form, whose hashes torchvision expects."""
    official, meta, pictures = tmp_path / "official", io.BytesIO(), []
    kinds = [("ID", "i4"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "i4")]
    rows = [(1, "n02", "cat, house cat", "", 0), (2, "n01", "tench", "", 0), (3, "n00", "animal", "", 2)]
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=kinds)})
    for seed in range(3):
        write_picture(official / "picture.jpg", seed)
        pictures.append((official / "picture.jpg").read_bytes())
    devkit = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": b"1\n2\n1\n"}
    held = {
        "devkit": {f"ILSVRC2012_devkit_t12/data/{name}": content for name, content in devkit.items()},
        "train": {f"{wnid}.tar": tar_bytes({f"{wnid}_1.JPEG": pictures[0]}) for wnid in ("n01", "n02")},
        "val": {f"ILSVRC2012_val_{i}.JPEG": picture for i, picture in enumerate(pictures)},
    }
    for key, files in held.items():
        file, _ = imagenet.ARCHIVE_META[key]
        (official / file).write_bytes(tar_bytes(files, "w:gz" if file.endswith("gz") else "w"))
        digest = hashlib.md5((official / file).read_bytes()).hexdigest()
        monkeypatch.setitem(imagenet.ARCHIVE_META, key, (file, digest))
    entry = replace(DATASETS["imagenet"], room=1, images={"train": 2, "val": 3})
    monkeypatch.setitem(DATASETS, "imagenet", entry)
    fetch_dataset("imagenet", official)
    assert open_dataset("imagenet").labels.tolist() == [0, 1, 1]
    assert open_dataset("imagenet", "train")[1].name == "train/n02/n02_1.JPEG"
    assert {entry.name for entry in (data / "imagenet").iterdir()} == {"train", "val", "meta.bin", "origin.json"}
    (data / "imagenet").rename(data / "other")
    (official / "ILSVRC2012_img_val.tar").write_bytes(b"cut short")
    with pytest.raises(DataError, match=r"holds a damaged archive: The archive ILSVRC2012_img_val.tar"):
        fetch_dataset("imagenet", official)
    assert [entry.name for entry in data.iterdir()] == ["other"]

"""Where things live, that nothing half-written survives, and that a changed byte of what is stored is noticed."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import class_folders

from zfnet_lib import files
from zfnet_lib.architecture import MINI, Box
from zfnet_lib.browser.atlas import read_manifest, write_atlas
from zfnet_lib.datasets import open_dataset, pack_dataset, pack_in_memory, whole_pack
from zfnet_lib.datasets.overlap import Overlap, Pair
from zfnet_lib.files import (
    PACKAGE,
    PROJECT,
    DamagedError,
    UnwritableError,
    ZfnetError,
    alone,
    check,
    data_root,
    is_busy,
    is_there,
    replacing,
    results_root,
    sha256,
    storing,
)
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import records
from zfnet_lib.paper.fig4 import Development, Feature
from zfnet_lib.paper.setting import Source
from zfnet_lib.paper.trainings import read_epochs
from zfnet_lib.paper.transfer import extract
from zfnet_lib.strongest import Block, Hits, Ranking, load_blocks, save_blocks, strongest
from zfnet_lib.training import newest_state, save_state
from zfnet_lib.weights import load_network, save_network


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_data_live_where_the_environment_says_and_otherwise_in_the_checkout(monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", "/somewhere/else")
    assert data_root() == Path("/somewhere/else")
    monkeypatch.setenv("ZFNET_DATA", "~/pictures")
    assert data_root() == Path.home() / "pictures"
    monkeypatch.setenv("ZFNET_DATA", "")
    assert data_root() == PROJECT / "data"


@pytest.mark.parametrize("variable", ["ZFNET_DATA", "ZFNET_RESULTS"])
def test_the_home_of_nobody_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "~no-such-user/place")
    with pytest.raises(ZfnetError, match="~no-such-user/place: there is no such user here; write the folder out"):
        data_root() if variable == "ZFNET_DATA" else results_root("tiny")


ALONE = """from zfnet_lib.__main__ import main
from zfnet_lib.files import data_root, results_root, spot_root
print(data_root(), results_root("tiny"), spot_root())
for words in ("list", "run --profile smoke", "run fig1 --profile tiny", "book --profile tiny"):
    print(words, "ends with", main(words.split()))"""


def test_a_package_without_a_checkout_works_in_the_current_folder(tmp_path):
    installed, here = tmp_path / "site-packages", tmp_path / "here"
    shutil.copytree(PACKAGE, installed / "zfnet_lib", ignore=shutil.ignore_patterns("__pycache__"))
    here.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZFNET_")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    run = {"cwd": here, "env": environment, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", ALONE], **run)
    first, *others = done.stdout.splitlines()
    assert first == f"{here}/data {here}/results/tiny {here}/runs/results/smoke/trained"
    ends = [line.rpartition(" ")[2] for line in others if " ends with " in line]
    assert ends == ["0", "1", "1", "1"]
    assert done.stderr.count(f"zfnet: there are no notebooks in {here}: ") == 3
    assert names(installed) == ["zfnet_lib"] and names(here) == []


def test_results_of_the_smoke_profile_are_not_among_the_committed_ones(monkeypatch, tmp_path):
    monkeypatch.delenv("ZFNET_RESULTS", raising=False)
    assert results_root("tiny") == PROJECT / "results" / "tiny"
    assert PROJECT / "results" not in results_root("smoke").parents
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    assert results_root("smoke") == tmp_path / "smoke"


def test_the_hash_is_the_standard_librarys(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)) * 999)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new folder" / "number.txt"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert names(path.parent) == ["number.txt"]


def test_writes_inside_one_another_leave_each_other_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing(Path("outer")) as outer:
        outer.write_text("outer")
        with replacing(tmp_path / "inner") as inner:
            inner.write_text("inner")
    assert names(tmp_path) == ["inner", "outer"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
        assert names(path) == [name]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_old_is_there_and_nothing_half_written(tmp_path, folder, stop):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(stop), replacing(path) as temporary:
        if folder:
            temporary.mkdir()
            temporary /= "inside"
        temporary.write_text("half")
        raise stop
    assert names(tmp_path) == ["kept"]
    assert path.read_text() == "old"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    sentence = r"^cannot write .*x: No space left on device; free space or choose another folder$"
    with pytest.raises(ZfnetError, match=sentence), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deeper" / "x"):
        sentence = r"^cannot write .*; free space or choose another folder$"
        with pytest.raises(ZfnetError, match=sentence), replacing(path) as temporary:
            temporary.write_text("never")


def test_a_folder_that_must_not_be_made_is_one_sentence(tmp_path, monkeypatch):
    def refuse(path, *rest):
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    path = tmp_path / "data" / "weights" / "x"
    with pytest.raises(ZfnetError, match=r"^cannot write .*Permission denied"), replacing(path) as temporary:
        temporary.write_text("never")


def test_errors_about_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x"):
        (tmp_path / "absent").read_text()
    assert names(tmp_path) == []


def test_errors_of_the_network_are_not_called_errors_of_writing(tmp_path):
    with pytest.raises(ConnectionError), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise ConnectionResetError("the other side closed the connection")
    assert names(tmp_path) == []


# ---- processes that are killed, and that wait for one another -----------------------------------------------


def dying(work: Callable[[], object], point: int = -1) -> int:
    """Run `work` in a process that dies as by kill -9 before file operation number `point`; return the status."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    count = itertools.count()

    def deadly(operation):
        def step(*arguments, **options):
            if next(count) == point:
                os._exit(9)
            return operation(*arguments, **options)

        return step

    for owner, names_ in ((Path, ("mkdir", "rename", "replace", "unlink", "write_text")), (shutil, ("rmtree",))):
        for name in names_:
            setattr(owner, name, deadly(getattr(owner, name)))
    work()
    os._exit(0)


def store(path: Path, text: str, folder: bool) -> None:
    with storing(path) as temporary:
        if folder:
            temporary.mkdir()
        ((temporary / "inside") if folder else temporary).write_text(text)


@pytest.mark.parametrize("folder", [False, True])
def test_a_kill_at_any_point_leaves_the_old_or_the_new_and_the_next_write_sweeps(tmp_path, folder):
    path, seen = tmp_path / "stored", []
    for point in itertools.count():
        store(path, "old", folder)
        status = dying(lambda: store(path, "new", folder), point)
        assert is_there(path)
        check(path)
        seen.append(((path / "inside") if folder else path).read_text())
        store(tmp_path / "other", "x", False)
        assert [name for name in names(tmp_path) if name.startswith(".")] == []
        if status == 0:
            break
    assert len(seen) > 4 and seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"}


@pytest.mark.parametrize("begin", [replacing, alone])
def test_only_what_dead_processes_of_this_machine_left_is_swept(tmp_path, begin):
    dead = os.fork() or os._exit(0)
    os.waitpid(dead, 0)
    here = files._MACHINE
    kept = [f".a.{here}.{os.getppid()}.part", f".b.elsewhere.{dead}.part", ".c.part"]
    for name in [f".d.e.{here}.{dead}.part", f".f.{here}.{os.getpid()}.part", f".g.{here}.{dead}.old", *kept]:
        (tmp_path / name).write_text("left")
    with begin(tmp_path / "x") as temporary:
        assert {*kept, "g"} <= set(names(tmp_path)) <= {*kept, "g", ".x.lock"}
        if temporary:
            temporary.write_text("written")


def test_only_one_process_at_a_time_works_in_a_folder(tmp_path):
    folder, log = tmp_path / "packs", tmp_path / "log"

    def work():
        with alone(folder), log.open("a", buffering=1) as file:
            file.write("in ")
            time.sleep(0.1)
            file.write("out ")

    running = [os.fork() or (work(), os._exit(0)) for _ in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in running] == [0, 0, 0]
    assert log.read_text() == "in out " * 3
    assert names(tmp_path) == ["log"]


def test_a_lock_is_seen_survives_the_replacing_of_its_folder_and_ends_with_its_process(tmp_path):
    folder = tmp_path / "folder"
    assert not is_busy(folder)
    with alone(folder):
        store(folder, "new", True)
        store(folder, "newer", True)
        assert is_busy(folder) and names(folder) == ["SHA256SUMS", "inside"]
    assert not is_busy(folder)

    def work():
        with alone(folder):
            os._exit(9)

    dying(work)
    assert names(tmp_path) == [".folder.lock", "folder"] and not is_busy(folder)
    with alone(folder):
        pass
    assert names(tmp_path) == ["folder"]


def test_the_library_works_without_fcntl(tmp_path):
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path; import zfnet_lib; from zfnet_lib.files import alone, is_busy\n"
        "folder = Path(sys.argv[1])\n"
        "with alone(folder): assert is_busy(folder)\n"
        "assert not is_busy(folder)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path / "folder"], check=True, timeout=60)


# ---- places that cannot be written --------------------------------------------------------------------------


@pytest.fixture(params=["below a file", "read-only"])
def unwritable(request, tmp_path, monkeypatch) -> Path:
    """A folder in which nothing can be made: below a file, or on a file system that refuses everything."""
    if request.param == "below a file":
        (tmp_path / "file").write_text("in the way")
        return tmp_path / "file" / "data"
    place = tmp_path / "data"
    place.mkdir()

    def refusing(name, operation):
        def step(path, *rest, **options):
            inside = isinstance(path, str | Path) and place in (Path(path), *Path(path).parents)
            if inside and (name != "open" or rest[0] & os.O_CREAT):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return operation(path, *rest, **options)

        return step

    for name in ("mkdir", "open", "unlink", "rename", "replace", "rmdir"):
        monkeypatch.setattr(os, name, refusing(name, getattr(os, name)))
    return place


@pytest.mark.parametrize("write", [alone, lambda path: replacing(path), lambda path: storing(path)])
def test_a_place_that_cannot_be_written_is_one_sentence(unwritable, write):
    sentence = (
        r"^cannot write .*: (Not a directory|Read-only file system|File exists); free space or choose another"
    )
    with pytest.raises(UnwritableError, match=sentence), write(unwritable / "x") as temporary:
        temporary.mkdir()  # `replacing` itself has nothing to make in a folder that is there
    assert not is_busy(unwritable / "x") and not is_there(unwritable / "x")


def test_a_search_that_cannot_be_kept_is_made_all_the_same(unwritable, net):
    pictures = open_dataset("shapes", n=4)
    expected = strongest(net, pictures, 1, ["conv1"])
    with pytest.warns(UserWarning, match=r"cannot write .*; the search goes on and is not kept"):
        found = strongest(net, pictures, 1, ["conv1"], folder=unwritable / "searches")
    assert torch.equal(found["conv1"].score, expected["conv1"].score)


def test_features_that_cannot_be_kept_are_computed_all_the_same(unwritable, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", str(unwritable))
    with pytest.warns(UserWarning, match=r"cannot write .*; these features are not kept"):
        found = extract(Means(), open_dataset("shapes", n=4), progress=False)
    assert found["mean"].matrix().shape == (4, 3)


# ---- what is stored: whole, damaged, and of an earlier version ----------------------------------------------


class Means:
    """Features without a network: the mean colour."""

    name, key, layers = "means", "means", ("mean",)

    def __call__(self, pictures):
        return {"mean": torch.stack([picture.float().mean((1, 2)) for picture in pictures])}


@pytest.fixture(scope="module")
def net() -> ConvNet:
    return ConvNet(MINI).eval()


MADE = records.Stopwatch().provenance()
RECORD = records.Record("test", "errors", 12.5, "%", MADE)
HITS = Hits("conv1", *(torch.arange(6).view(3, 2) for _ in range(4)))
BLOCK = Block("conv1", 0, [1.0], [np.ones((3, 4, 4))], [], [Box(0, 0, 4, 4)], [], ["a.jpg"])
FEATURE = Feature(0, np.ones((1, 4, 4, 3), np.uint8), [1.0], [2.0], ["a.jpg"], [(0, 0)])
PAIR = Overlap("a train", "b val", (10, 10), 0.9, (Pair("x", "y", 0.95, False),))


def atlas(folder: Path) -> Path:
    return write_atlas(ConvNet(MINI).eval(), open_dataset("shapes", n=4), folder / "atlas", maps=1)


def pack(folder: Path) -> Path:
    class_folders(folder / "pictures", ["cat", "dog"], 2)
    pack_dataset(f"folder:{folder / 'pictures'}", "train", 8, workers=0, progress=False)
    return next((data_root() / "packs").glob("folder-*"))


def evolution(folder: Path) -> Path:
    source = Source("net", "pictures", MADE)
    Development((1,), {"conv1": [FEATURE]}, [RECORD], source).save(folder / "evolution", {})
    return folder / "evolution"


def at(path: Path, write: Callable[[Path], object]) -> Path:
    write(path)
    return path


RESULTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "weights": (lambda d: save_network(ConvNet(MINI).features("conv1"), d / "weights", {}), load_network),
    "checkpoint": (
        lambda d: save_state(d, 1, {"w": torch.arange(9.0)}, {"state": {"loss": 0.25}}),
        lambda path: newest_state(path.parent),
    ),
    "ranking": (lambda d: Ranking({"conv1": HITS}, 3, {}).save(d / "top.safetensors"), Ranking.load),
    "mosaic": (lambda d: at(d / "blocks.npz", lambda path: save_blocks(path, [BLOCK], {})), load_blocks),
    "records": (lambda d: at(d / "a.jsonl", lambda path: records.append(path, [RECORD] * 3)), records.read),
    "epochs": (
        lambda d: at(d / "epochs.jsonl", lambda path: records.write_lines(path, ['{"epoch": 1}', '{"epoch": 2}'])),
        read_epochs,
    ),
    "overlap": (lambda d: at(d / "a--b.json", PAIR.save), Overlap.load),
    "evolution": (evolution, lambda path: Development.load(path, {})),
    "atlas": (atlas, read_manifest),
    "pack": (pack, whole_pack),
}
"""By kind of result: what stores a small one in a folder, and what reads it."""


def damages(path: Path):
    """Damage each file of something stored in turn: a flipped bit at five places, and a cut; then mend it."""
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in inside:
        if file.is_dir() or "sha256" in file.name.lower():
            continue
        whole = file.read_bytes()
        for place in sorted({0, len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4, len(whole) - 1}):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            yield file
        file.write_bytes(whole[: len(whole) // 2])
        yield file
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", RESULTS)
def test_a_changed_byte_of_a_result_is_noticed_and_named(kind, data, tmp_path):
    write, read = RESULTS[kind]
    path = write(tmp_path)
    assert read(path) is not None
    for file in damages(path):
        with pytest.raises(ZfnetError, match=f"{path.name}|{tmp_path / 'pictures'}"):
            pytest.fail(f"{file} was read as {read(path)}")
    assert read(path) is not None


def features(folder: Path):
    return extract(Means(), open_dataset("shapes", n=4), progress=False)["mean"].matrix()


def search(folder: Path):
    pictures = pack_in_memory(open_dataset("shapes", n=4), 64)
    return strongest(ConvNet(MINI).eval(), pictures, 1, ["conv1"], folder=folder / "searches")["conv1"].score


def packed(folder: Path):
    name = f"folder:{folder / 'pictures'}"
    if not (folder / "pictures").exists():
        class_folders(folder / "pictures", ["cat", "dog"], 2)
    return pack_dataset(name, "train", 8, workers=0, progress=False).pictures.clone()


@pytest.mark.parametrize(
    ("compute", "place"), [(features, "data/features"), (search, "searches"), (packed, "data/packs")]
)
def test_a_damaged_cache_is_computed_again_with_a_word(compute, place, data, tmp_path):
    expected = compute(tmp_path)
    (folder,) = (tmp_path / place).iterdir()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert torch.equal(compute(tmp_path), expected) and not said
        for file in damages(folder):
            assert torch.equal(compute(tmp_path), expected), file
            assert said and all("damaged" in str(warning.message) for warning in said), file
            said.clear()
            assert torch.equal(compute(tmp_path), expected) and not said


def test_an_atlas_without_its_manifest_is_written_again(tmp_path):
    folder = atlas(tmp_path)
    (folder / "manifest.json").unlink()
    assert read_manifest(atlas(tmp_path))["network"] == "mini"


def test_checkpoints_of_an_earlier_version_are_taken_up(tmp_path):
    path = save_state(tmp_path, 1, {"w": torch.arange(9.0)}, {"state": 1})
    (path / "SHA256SUMS").unlink()
    assert newest_state(tmp_path).values == {"state": 1}
    (path / "state.json").write_text(json.dumps({"state": 1, "sha256": sha256(path / "state.safetensors")}))
    assert newest_state(tmp_path).values == {"state": 1}
    (path / "state.json").write_text(json.dumps({"state": 1, "sha256": "0" * 64}))
    with pytest.raises(ZfnetError, match="is damaged"):
        newest_state(tmp_path)


def test_what_was_stored_without_a_hash_is_believed_and_what_was_stored_with_one_is_not_when_a_file_lacks(tmp_path):
    (tmp_path / "plain").write_text("by hand")
    check(tmp_path / "plain")
    check(tmp_path / "absent")
    store(tmp_path / "folder", "x", True)
    (tmp_path / "folder/more").write_text("added later")
    check(tmp_path / "folder")
    (tmp_path / "folder/inside").unlink()
    with pytest.raises(DamagedError, match=r"^inside is missing$"):
        check(tmp_path / "folder")

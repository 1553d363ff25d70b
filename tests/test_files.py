"""Where things live; nothing half-written survives; damage is noticed; what is kept is computed again in time."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from layouts import class_folders, write_notebook, write_picture
from safetensors import SafetensorError

from zfnet_lib import MINI, ConvNet, ZfnetError, files, load_network, open_dataset, save_network, strongest, train
from zfnet_lib.architecture import Box
from zfnet_lib.batches import training_preparation
from zfnet_lib.browser.atlas import read_manifest, write_atlas
from zfnet_lib.datasets import dataset_folder, pack_dataset
from zfnet_lib.datasets.overlap import Overlap, Pair
from zfnet_lib.files import UnwritableError, alone, check, is_busy, is_there, replacing, storing
from zfnet_lib.paper import claims, records, runner
from zfnet_lib.paper.claims import evidence, registry
from zfnet_lib.paper.trainings import read_epochs, training_data
from zfnet_lib.paper.transfer import extract
from zfnet_lib.strongest import Block, load_blocks, save_blocks
from zfnet_lib.training import SMOKE


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("variable", "root", "usual"),
    [
        ("ZFNET_DATA", files.data_root, "data"),
        ("ZFNET_RESULTS", lambda: files.results_root("tiny"), "results/tiny"),
        ("ZFNET_RESULTS", lambda: files.results_root("smoke"), "runs/results/smoke"),
    ],
)
def test_data_and_results_live_where_the_environment_says_or_in_the_checkout(monkeypatch, variable, root, usual):
    below = usual.rpartition("results")[2].strip("/") if variable == "ZFNET_RESULTS" else ""
    for given, place in (("/there", Path("/there")), ("~/here", Path.home() / "here")):
        monkeypatch.setenv(variable, given)
        assert root() == place / below
    monkeypatch.setenv(variable, "")
    assert root() == files.PROJECT / usual
    monkeypatch.setenv(variable, "~no-such-user/place")
    with pytest.raises(ZfnetError, match=r"^~no-such-user/place: there is no such user .*; write the folder out$"):
        root()


ALONE = """from zfnet_lib.__main__ import main
from zfnet_lib.files import data_root, results_root, trained_root
print(data_root(), results_root("tiny"), trained_root())
for words in ("list", "run --profile smoke", "run fig1 --profile tiny", "book --profile tiny"):
    print(words, "ends with", main(words.split()))"""


def test_a_package_without_a_checkout_works_in_the_current_folder(tmp_path):
    installed, here = tmp_path / "site-packages", tmp_path / "here"
    shutil.copytree(files.PACKAGE, installed / "zfnet_lib", ignore=shutil.ignore_patterns("__pycache__"))
    here.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZFNET_")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    run = {"cwd": here, "env": environment, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", ALONE], **run)
    first, *others = done.stdout.splitlines()
    assert first == f"{here}/data {here}/results/tiny {here}/runs/results/smoke/trained"
    assert [line.rpartition(" ")[2] for line in others if " ends with " in line] == ["0", "1", "1", "1"]
    assert done.stderr.count(f"zfnet: there are no notebooks in {here}: ") == 3
    assert names(installed) == ["zfnet_lib"] and names(here) == []


# ---- all or nothing -----------------------------------------------------------------------------------------


def put(path: Path, text: str, folder: bool) -> None:
    """Write a file, or a folder with one."""
    if folder:
        path.mkdir()
    (path / "inside" if folder else path).write_text(text)


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_or_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    path = Path("new folder") / "number"
    inside = path / "inside" if folder else path
    for text in ("first", "second"):
        with replacing(path) as temporary:
            put(temporary, text, folder)
            with replacing(tmp_path / path.with_name("other")) as other:  # one write leaves another one alone
                other.write_text(text)
            assert not path.exists() or inside.read_text() == "first"
        assert inside.read_text() == text
    assert names(path.parent) == ["number", "other"]
    (tmp_path / "link").symlink_to(tmp_path / path)
    store(tmp_path / "link", "third", folder)
    assert inside.read_text() == "second" and not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_old_is_there_and_nothing_half_written(tmp_path, folder, stop):
    (tmp_path / "kept").write_text("old")
    with pytest.raises(stop), replacing(tmp_path / "kept") as temporary:
        put(temporary, "half", folder)
        raise stop
    assert names(tmp_path) == ["kept"] and (tmp_path / "kept").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), UnwritableError),
        (SafetensorError("No space left on device"), UnwritableError),
        (FileNotFoundError(errno.ENOENT, "No such file", "/absent"), FileNotFoundError),
        (ConnectionResetError("the other side closed the connection"), ConnectionError),
    ],
)
def test_a_full_disk_is_one_sentence_and_errors_of_what_is_read_stay_what_they_are(tmp_path, error, expected):
    with pytest.raises(expected) as caught, replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == []
    if expected is UnwritableError:
        sentence = f"cannot write {tmp_path}/x: No space left on device; free space or choose another folder"
        assert str(caught.value) == sentence


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
        put(temporary, text, folder)


@pytest.mark.parametrize("folder", [False, True])
def test_a_kill_at_any_point_leaves_the_old_or_the_new_and_the_next_write_sweeps(tmp_path, folder):
    path, seen = tmp_path / "stored", []
    for point in itertools.count():
        store(path, "old", folder)
        status = dying(lambda: store(path, "new", folder), point)
        assert is_there(path)
        check(path)
        seen.append((path / "inside" if folder else path).read_text())
        store(tmp_path / "other", "x", False)
        assert not [name for name in names(tmp_path) if name.startswith(".")]
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


@pytest.mark.parametrize("write", [alone, replacing, storing])
def test_a_place_that_cannot_be_written_is_one_sentence(unwritable, write):
    reason = "(Not a directory|Read-only file system|File exists)"
    sentence = f"^cannot write .*: {reason}; free space or choose another folder$"
    with pytest.raises(UnwritableError, match=sentence), write(unwritable / "x") as temporary:
        temporary.mkdir()  # `replacing` itself has nothing to make in a folder that is there
    assert not is_busy(unwritable / "x") and not is_there(unwritable / "x")


def test_what_cannot_be_kept_is_computed_all_the_same(unwritable, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", str(unwritable))
    pictures = open_dataset("shapes", n=4)
    with pytest.warns(UserWarning, match=r"cannot write .*; the search goes on and is not kept"):
        found = strongest(NET, pictures, 1, ["conv1"], folder=unwritable / "searches")
    assert torch.equal(found["conv1"].score, strongest(NET, pictures, 1, ["conv1"])["conv1"].score)
    with pytest.warns(UserWarning, match=r"cannot write .*; these features are not kept"):
        found = extract(Means(), pictures)
    assert torch.cat(list(found["mean"].parts())).shape == (4, 3)


# ---- what is stored: whole, damaged, and of an earlier version ----------------------------------------------


class Means:
    """Features without a network: the mean colour."""

    name, key, layers = "means", "means", ("mean",)

    def __call__(self, pictures):
        return {"mean": torch.stack([picture.float().mean((1, 2)) for picture in pictures])}


NET = ConvNet(MINI).eval()
MADE = records.Stopwatch().provenance()
RECORD = records.Record("test", "errors", 12.5, "%", MADE)
BLOCK = Block("conv1", 0, [1.0], [np.ones((3, 4, 4))], [], [Box(0, 0, 4, 4)], [], ["a.jpg"])
EPOCHS = ['{"epoch": 1}', '{"epoch": 2}']
PAIR = Overlap("a train", "b val", (10, 10), 0.9, (Pair("x", "y", 0.95, False),))


RESULTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "weights": (lambda path: save_network(ConvNet(MINI).features("conv1"), path, {}), load_network),
    "blocks.npz": (lambda path: save_blocks(path, [BLOCK], {}), load_blocks),
    "records.jsonl": (lambda path: records.append(path, [RECORD] * 3), records.read),
    "epochs.jsonl": (lambda path: records.write_lines(path, EPOCHS), read_epochs),
    "a--b.json": (PAIR.save, Overlap.load),
    "atlas": (lambda path: write_atlas(NET, open_dataset("shapes", n=4), path, maps=1), read_manifest),
}
"""By name of a result: what stores a small one there, and what reads it."""


def damages(path: Path):
    """Damage each file of something stored in turn: a flipped bit at five places, and a cut; then mend it."""
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in [file for file in inside if file.is_file() and "sha256" not in file.name.lower()]:
        whole = file.read_bytes()
        for place in sorted({0, len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4, len(whole) - 1}):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            yield file
        file.write_bytes(whole[: len(whole) // 2])
        yield file
        file.write_bytes(whole)


@pytest.mark.parametrize("name", RESULTS)
def test_a_changed_byte_of_a_result_is_noticed_and_named(name, data, tmp_path):
    write, read = RESULTS[name]
    path = tmp_path / name
    write(path)
    for file in damages(path):
        with pytest.raises(ZfnetError, match=name):
            pytest.fail(f"{file} was read as {read(path)}")
    assert read(path) is not None


@pytest.fixture
def pictures(data: Path, tmp_path: Path) -> str:
    """A folder of twelve pictures; `data` is the data folder."""
    class_folders(tmp_path / "pictures", ["cats", "dogs"], 6, "{}.png")
    return f"folder:{tmp_path / 'pictures'}"


def replace_pictures(name: str) -> None:
    """Put other pixels, of the same size, under the same names."""
    for seed, path in enumerate(sorted(Path(name.removeprefix("folder:")).rglob("*.png"))):
        write_picture(path, 1000 + seed)


def features(name: str) -> list:
    return torch.cat(list(extract(Means(), open_dataset(name, "all"))["mean"].parts())).tolist()


def search(name: str) -> list:
    folder = files.data_root() / "searches"
    return strongest(NET, open_dataset(name, "all"), 2, ["conv1"], folder=folder)["conv1"].score.tolist()


def packed(name: str) -> list:
    return pack_dataset(name, "all", 8, workers=0, progress=False).pictures.tolist()


@pytest.mark.parametrize(("compute", "place"), [(features, "features"), (search, "searches"), (packed, "packs")])
def test_a_damaged_cache_is_computed_again_with_a_word(compute, place, data, pictures):
    expected = compute(pictures)
    (kept,) = (path for path in (data / place).iterdir() if path.suffix != ".sha256")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert compute(pictures) == expected and not said
        for file in damages(kept):
            assert compute(pictures) == expected, file
            assert said and all("damaged" in str(warning.message) for warning in said), file
            said.clear()
            assert compute(pictures) == expected and not said


def test_what_was_stored_without_a_hash_is_believed_and_what_was_stored_with_one_is_not_when_a_file_lacks(tmp_path):
    (tmp_path / "plain").write_text("by hand")
    check(tmp_path / "plain")
    check(tmp_path / "absent")
    store(tmp_path / "folder", "x", True)
    (tmp_path / "folder/more").write_text("added later")
    check(tmp_path / "folder")
    (tmp_path / "folder/inside").unlink()
    with pytest.raises(files.DamagedError, match=r"^inside is missing$"):
        check(tmp_path / "folder")
    store(tmp_path / "stored", "x", False)
    for left, sentence in (("", r"^stored.sha256 is empty$"), ("cut", "is missing$")):
        (tmp_path / "stored.sha256").write_text(left)
        with pytest.raises(files.DamagedError, match=sentence):
            check(tmp_path / "stored")


# ---- freshness: pictures replaced under the same names, and other weights at the same path ----------------------


def atlas_key(name: str) -> str:
    folder = write_atlas(NET, open_dataset(name, "all"), files.data_root() / "atlas", maps=1)
    return read_manifest(folder)["key"]


@pytest.mark.parametrize("compute", [features, search, packed, atlas_key])
def test_what_is_kept_is_computed_again_for_other_pictures(pictures, compute):
    before = compute(pictures)
    assert compute(pictures) == before
    replace_pictures(pictures)
    assert compute(pictures) != before


def test_the_fingerprint_covers_the_pixels_of_what_no_archive_vouches_for(pictures):
    unpacked = dataset_folder("caltech-101")
    class_folders(unpacked, ["ant", "bee"], 2)
    before = [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")]
    assert [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")] == before
    replace_pictures(pictures)
    write_picture(unpacked / "bee/image_0002.jpg", 99)
    after = [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")]
    assert all(np.array(before) != np.array(after))
    (unpacked.parents[1] / "origin.json").write_text('{"archive": "the official zip"}')
    before = open_dataset("caltech-101", "all").fingerprint
    write_picture(unpacked / "bee/image_0002.jpg", 98)
    assert open_dataset("caltech-101", "all").fingerprint == before


@pytest.mark.parametrize("from_pack", [False, True])
def test_a_training_does_not_go_on_with_other_pictures(pictures, tmp_path, from_pack):
    def learn():
        data = training_data(pictures, "train") if from_pack else open_dataset(pictures, "train")
        net = ConvNet(replace(MINI, classes=2), training_preparation(data, MINI.image_size))
        list(train(net, data, replace(SMOKE, batch=8, epochs=1), folder=tmp_path / "training", resume=True))

    learn()
    learn()
    replace_pictures(pictures)
    with pytest.raises(ZfnetError, match="holds a training with another data"):
        learn()


def test_a_notebook_runs_again(pictures, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks/page.ipynb", parameters='pictures: str = ""\nnetwork: str = ""')
    (tmp_path / "_toc.yml").touch()
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setattr(runner, "state_hash", lambda: "unchanged")
    monkeypatch.setattr(runner, "_execute", lambda source, executed, *rest: shutil.copy(source, executed) and "")
    weights = save_network(NET, tmp_path / "weights", {})

    def state() -> str:
        named = {"pictures": pictures, "network": str(weights)}
        (run,) = runner.run_notebooks(["page"], "tiny", named, out=tmp_path / "runs")
        return run.state

    assert [state(), state()] == ["done", "kept"]
    replace_pictures(pictures)
    assert [state(), state()] == ["done", "kept"]
    save_network(ConvNet(MINI, seed=1), weights, {})
    assert [state(), state()] == ["done", "kept"]


def test_a_claim_is_measured_again(pictures, data, results, monkeypatch):
    made = records.Provenance("c0ffee", False, {}, "a processor", 0, 1.0)
    answer = [evidence.counted("answer", 42, 7)]
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: made)
    name = "input-range-128"
    monkeypatch.setattr(claims.CLAIMS[name], "measure", lambda at: answer)

    def subject(profile):
        return SimpleNamespace(name="net", seed=0, dataset=open_dataset(pictures, "all"))

    monkeypatch.setattr(registry, "Subject", subject)

    def seconds() -> float:
        return dict(claims.measure("tiny", [name]))[name]

    assert [seconds(), seconds()] == [1, 0]
    replace_pictures(pictures)
    assert [seconds(), seconds()] == [1, 0]
    save_network(NET, data / "weights" / "net", {})
    assert [seconds(), seconds()] == [1, 0]

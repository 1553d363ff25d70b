"""Where things live, and that nothing half-written survives."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zfnet_lib.files import PACKAGE, PROJECT, ZfnetError, data_root, replacing, results_root, sha256


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


def test_only_one_process_at_a_time_works_in_a_folder(tmp_path):
    folder, log = tmp_path / "packs", tmp_path / "log"
    program = (
        "import sys, time; from pathlib import Path; from zfnet_lib.files import alone\n"
        "with alone(Path(sys.argv[1])), open(sys.argv[2], 'a', buffering=1) as log:\n"
        "    log.write('in '); time.sleep(0.2); log.write('out ')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(folder), str(log)]) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert log.read_text() == "in out " * 3

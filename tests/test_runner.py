"""The runner of notebooks, on a small project of its own."""

import errno
import json
import os
import subprocess
import sys
import time
from functools import partial
from unittest.mock import Mock

import layouts
import nbformat
import psutil
import pytest

from zfnet_lib.__main__ import main
from zfnet_lib.files import PACKAGE, ZfnetError, trained_root
from zfnet_lib.paper import runner
from zfnet_lib.paper.runner import notebook_names, publish_book, run_notebooks, state_hash, summary

PARAMETERS = """profile: str = "tiny"  # smoke, tiny or paper
live: bool = False  # compute anew
size: float = 1.5  # side, in pixels
"""


write_notebook = partial(layouts.write_notebook, parameters=PARAMETERS)


@pytest.fixture
def project(tmp_path, results, monkeypatch):
    """A project with the notebooks `two` and `one` in its book and `aside` beside it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("chapters:\n  - file: notebooks/two\n  - file: notebooks/one\n")
    write_notebook(tmp_path / "notebooks/one.ipynb", "print(profile, live, size)")
    write_notebook(tmp_path / "notebooks/two.ipynb", "1 / 0", "print('never')")
    write_notebook(tmp_path / "notebooks/aside.ipynb", "colour: str = 'red'")
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setattr(runner, "state_hash", lambda: "unchanged")
    monkeypatch.setenv("JUPYTER_PATH", layouts.foreign_kernel(tmp_path / "jupyter"))
    return tmp_path


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_failing_notebook_is_named_the_others_run_and_a_book_of_them_is_refused(project):
    assert notebook_names(project) == ["two", "one", "aside"]  # those of the book in its order
    write_notebook(project / "notebooks/aside.ipynb", "import os", "os._exit(1)")
    failed, dead, done = run_notebooks(["two", "aside", "one"], "smoke", {"size": "2"})
    assert (failed.notebook, failed.state, dead.state) == ("two", "failed", "failed")
    assert failed.error == "cell 3: ZeroDivisionError: division by zero" and "kernel died" in dead.error.lower()
    assert (done.notebook, done.state, done.error) == ("one", "done", "")
    assert printed(done.path) == "smoke False 2.0\n"
    assert done.path == project / "runs/smoke/one.ipynb"
    assert "two       failed" in summary([failed, done]) and "cell 3: ZeroDivisionError" in summary([failed, done])
    assert sorted(path.stem for path in done.path.parent.iterdir()) == ["aside", "one", "two"]
    sentence = r"runs/smoke lacks two \(not run, or failed\); run first: zfnet run two --profile smoke"
    with pytest.raises(ZfnetError, match=sentence):
        publish_book("smoke")
    for damaged in (b"", b"{", b"[]", b"\xff", b'{"metadata": 7}', b'{"metadata": {"zfnet": []}}'):
        done.path.write_bytes(damaged)
        with pytest.raises(ZfnetError, match=r"lacks two, one \(not run, or failed\)"):
            publish_book("smoke")


@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_notebooks_run_in_this_environment_whatever_python3_is_registered(project, monkeypatch, variable):
    monkeypatch.delenv("JUPYTER_PATH")
    monkeypatch.setenv(variable, layouts.foreign_kernel(project / "other"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "no")
    monkeypatch.chdir(project)
    monkeypatch.setenv("ZFNET_DATA", "here")  # and not below the folder in which the kernel works
    before = dict(os.environ)
    write_notebook(
        project / "notebooks/one.ipynb", "import os, sys", "print(sys.executable, os.getenv('ZFNET_DATA'))"
    )
    (done,) = run_notebooks(["one"], "smoke")
    assert printed(done.path) == f"{sys.executable} {project / 'here'}\n"
    assert dict(os.environ) == before


BATCH = """from pathlib import Path
from zfnet_lib.paper import runner
if __name__ == "__main__":
    runner.PROJECT = Path.cwd()
    list(runner.run_notebooks(["one", "aside"], "smoke", jobs=2))"""


def test_workers_and_kernels_end_with_a_batch_that_is_killed(project):
    for name in ("one", "aside"):
        write_notebook(project / f"notebooks/{name}.ipynb", "open('begun', 'w')", "import time; time.sleep(600)")
    (project / "batch.py").write_text(BATCH)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "batch.py"], cwd=project, env=environment, **silent) as batch:
        for _ in range(3000):  # five minutes at most
            assert batch.poll() is None
            if (project / "notebooks/begun").exists():
                break
            time.sleep(0.1)
        started = psutil.Process(batch.pid).children(recursive=True)
        assert any("ipykernel_launcher" in process.cmdline() for process in started)
        batch.kill()
    _, left = psutil.wait_procs(started, timeout=60)
    for process in left:
        process.kill()
    assert not left


def killed(*notebook):
    os._exit(9)


def test_a_worker_that_is_killed_is_one_sentence(project, monkeypatch):
    monkeypatch.setattr(runner, "_run", killed)
    with pytest.raises(ZfnetError, match=r"a process that runs notebooks was killed, .* with --jobs 1 needs less"):
        list(run_notebooks(["one", "aside"], "smoke", jobs=2))


def test_the_command_reports_each_notebook_fails_with_one_and_goes_on(project, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_execute", pretend(failing="two"))
    assert main(["run", "two", "one", "--profile", "smoke", "--jobs", "1"]) == 1
    said = capsys.readouterr()
    rows = "two       failed      0.0  cell 1: Error: planted\none       done        0.0\n"
    assert said.out.partition("\n")[2] == rows
    assert said.err == "two: failed\none: done\nzfnet: 1 of 2 notebooks failed: two\n"
    monkeypatch.setattr(runner, "_execute", pretend(interrupted="aside"))
    assert main(["run", "--profile", "smoke", "--jobs", "1"]) == 130
    assert "two: done\none: kept\nzfnet: stopped; the same command continues" in capsys.readouterr().err
    assert {path.stem for path in (project / "runs/smoke").iterdir()} == {"one", "two"}
    monkeypatch.setattr(runner, "_execute", pretend())
    assert main(["run", "--profile", "smoke", "--jobs", "1"]) == 0
    assert capsys.readouterr().err == "two: kept\none: kept\naside: done\n"


def test_a_folder_is_taken_from_where_the_command_runs(project, monkeypatch):
    write_notebook(project / "notebooks/one.ipynb", "print(e)", parameters="e: str = ''")
    (project / "mine").mkdir()
    monkeypatch.chdir(project)
    for given, place in (("./mine", str(project / "mine")), ("mine", "mine"), ("mine/absent", "mine/absent")):
        assert runner._values(["one"], {"e": given}, {}) == {"one": {"e": place}}
    (done,) = run_notebooks(["one"], "smoke", {"e": "folder:mine/pictures"})
    assert printed(done.path) == f"folder:{project / 'mine/pictures'}\n"


def test_notebooks_run_side_by_side_each_on_its_share_of_the_cores(project, monkeypatch):
    monkeypatch.setattr(runner, "cores", lambda: 6)
    for mine, other in (("one", "aside"), ("aside", "one")):
        meeting = f"import os, pathlib, time; pathlib.Path('{mine}').touch()", f"other = pathlib.Path('{other}')"
        wait = "for _ in range(3000): time.sleep(0 if other.exists() else 0.1)"  # five minutes at most
        tell = "print(other.exists(), os.environ['OMP_NUM_THREADS'])"
        write_notebook(project / f"notebooks/{mine}.ipynb", *meeting, wait, tell)
    found = {run.notebook: run for run in run_notebooks([], "smoke", jobs=2)}
    assert {name: run.state for name, run in found.items()} == {"one": "done", "aside": "done", "two": "failed"}
    assert [printed(found[name].path) for name in ("one", "aside")] == ["True 3\n", "True 3\n"]
    assert [run.state for run in run_notebooks(["one", "aside"], "smoke")] == ["kept", "kept"]


def test_values_take_the_declared_type_and_their_cell_is_shown_like_the_parameters_cell(project):
    declared = "a: bool = True\nb: bool = False\nc: int = 1\nd: float = 1.0\ne: str = ''"
    write_notebook(project / "notebooks/one.ipynb", "print((a, b, c, d, e))", parameters=declared)
    (done,) = run_notebooks(["one"], "smoke", {"a": "No", "b": "true", "c": "-3", "d": 2, "e": "7"})
    assert printed(done.path) == "(False, True, -3, 2, '7')\n"
    tags = [cell.metadata.get("tags", []) for cell in nbformat.read(done.path, as_version=4).cells]
    (injected,) = [of_cell for of_cell in tags if "injected-parameters" in of_cell]
    assert "hide-input" in injected and "parameters" not in injected


def test_a_finished_notebook_is_kept_until_something_changes(project, monkeypatch):
    def state(**options):
        failed, one = (run.state for run in run_notebooks(["two", "one"], "smoke", **options))
        assert failed == "failed"
        return one

    monkeypatch.setattr(runner, "_execute", pretend(failing="two"))
    assert [state(), state()] == ["done", "kept"]
    assert [state(parameters={"size": 3.0}), state(parameters={"size": 3.0}, live=True)] == ["done", "done"]
    write_notebook(project / "notebooks/one.ipynb", "print('other')")
    assert state() == "done"
    monkeypatch.setattr(runner, "state_hash", lambda: "library or results changed")
    assert [state(), state()] == ["done", "kept"]


def pretend(failing="", interrupted=""):
    """Return a stand-in for papermill that copies the source."""

    def execute(source, target, values):
        target.write_text(source.read_text())
        if source.stem == interrupted:
            raise KeyboardInterrupt
        return "cell 1: Error: planted" if source.stem == failing else ""

    return execute


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"names": ["fig99"]}, "there is no notebook 'fig99'; the notebooks are two, one, aside"),
        ({"parameters": {"typo": "1"}}, "no parameter 'typo' in one; the parameters are count, n, on, size"),
        ({"parameters": {"size": "wide"}}, "the parameter size of one takes float, not 'wide'"),
        ({"parameters": {"size": True}}, "the parameter size of one takes float, not True"),
        ({"parameters": {"count": "3.5"}}, "the parameter count of one takes int, not '3.5'"),
        ({"parameters": {"count": True}}, "the parameter count of one takes int, not True"),
        ({"parameters": {"on": "2"}}, "the parameter on of one takes bool, not '2'"),
        ({"parameters": {"n": "[1]"}}, "the parameter n of one takes list, not '[1]'"),
        ({"parameters": {"n": "folder:~no/x"}}, "~no/x: there is no such user here; write the folder out"),
        ({"parameters": {"live": "yes"}}, "set live by --live, not as a parameter"),
        ({"jobs": 0}, "0 notebooks at a time are impossible; give --jobs 1 or more"),
        ({"jobs": -1}, "-1 notebooks at a time are impossible; give --jobs 1 or more"),
        ({"out": "file/runs"}, "cannot write to {out}: Not a directory; choose another folder with --out"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_runs_nothing(project, options, sentence):
    (project / "file").touch()
    more = "count: int = 1\non: bool = True\nn: list = []"
    write_notebook(project / "notebooks/one.ipynb", parameters=PARAMETERS + more)
    asked = {"names": ["one"], "profile": "smoke"} | options
    if "out" in options:
        asked["out"] = project / options["out"]
    with pytest.raises(ZfnetError) as raised:
        run_notebooks(**asked)
    assert str(raised.value) == sentence.format(**asked)
    assert not (project / "runs").exists()


def test_a_disk_that_fills_up_is_one_sentence(project, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(runner, "_execute", Mock(side_effect=full))
    with pytest.raises(ZfnetError, match=r"cannot write to .*/runs/smoke: No space left on device; choose another"):
        list(run_notebooks(["one"], "smoke"))


def test_live_trains_anew_what_smoke_trained_before(project, results, monkeypatch):
    monkeypatch.setattr(runner, "_execute", pretend())
    (trained_root() / "mini").mkdir(parents=True)
    list(run_notebooks(["one"], "smoke"))
    assert (trained_root() / "mini").is_dir()
    list(run_notebooks(["one"], "smoke", live=True))
    assert not trained_root().exists()


def test_the_state_follows_results_and_weights(results, data):
    seen = [state_hash()]
    for path, text in [
        (results / "tiny/records.jsonl", "{}"),
        (results / "tiny/records.jsonl", json.dumps({"value": 1})),
        (data / "weights/net/meta.json", "{}"),
        (data / "overlap/a--b.json", "{}"),
        (data / "overlap/a--b.json", "[]"),
        (data / "caltech-101/readme", ""),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        assert state_hash() == state_hash()
        seen.append(state_hash())
    assert len(set(seen)) == len(seen)
    (trained_root() / "mini").mkdir(parents=True)
    (trained_root() / "mini/meta.json").write_text("{}")
    assert state_hash() == seen[-1]  # or a run of `smoke` would never be kept

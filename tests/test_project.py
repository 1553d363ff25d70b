"""The project's own rules: one set of dependencies, imports that go down, thin notebooks."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from zfnet_lib.files import PROJECT
from zfnet_lib.paper.claims import CLAIMS

LIBRARY = PROJECT / "zfnet_lib"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
TOLD = [path.stem for path in NOTEBOOKS if path.stem not in ("browse", "claims")]
BESIDE = {"datasets", "paper", "browser", "bench", "doctor", "__main__"}
"""What stands beside the core."""
IN_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Packages that conda calls otherwise."""


def test_no_modules_import_each_other() -> None:
    def name_of(path: Path) -> str:
        parts = path.relative_to(PROJECT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    paths = {name_of(path): path for path in LIBRARY.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        package = (module if path.stem == "__init__" else module.rpartition(".")[0]).split(".")
        graph[module] = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                named = {f"{base}.{alias.name}" for alias in node.names}
                graph[module] |= {name if name in paths else base for name in named} - {module}
    TopologicalSorter(graph).prepare()  # refuses a circle and names it


def loaded(start: str) -> set[str]:
    """Return the modules that are loaded after some code."""
    code = f"import sys; {start}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_load_the_core_and_nothing_of_the_reproduction() -> None:
    everything = loaded("import zfnet_lib as z; [getattr(z, name) for name in z.__all__ if name != 'open_dataset']")
    core = {name for name in everything if name.startswith("zfnet_lib")}
    assert 15 <= len(core) <= 20 and not {name.split(".")[1] for name in core - {"zfnet_lib"}} & BESIDE
    assert not everything & {"matplotlib", "IPython", "papermill", "skimage"}
    start = "import zfnet_lib.__main__, zfnet_lib.paper.records, zfnet_lib.paper.claims, zfnet_lib as z"
    slow = {"torchvision", "sympy", "sklearn", "captum", "papermill", "sphinx"}  # seconds each, for few commands
    assert not slow & loaded(f"{start}; z.ConvNet(z.MINI)")


@pytest.mark.parametrize("command", ["--help", "list", "show --help", "train"])
def test_commands_that_need_no_torch_do_not_load_it(command: str) -> None:
    told = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): main({command.split()})"
    assert not loaded(f"from zfnet_lib.__main__ import main\n{told}\n") & {"torch", "numpy", "zfnet_lib.network"}


def test_public_names_are_not_hidden_by_modules_of_the_same_name() -> None:
    code = "import zfnet_lib.strongest, zfnet_lib.deconv, zfnet_lib.paper as p, zfnet_lib as z; "
    code += "assert all(callable(f) for f in (z.deconv, z.strongest)) and p.__name__ == 'zfnet_lib.paper'"
    code += "; assert sorted(z._HOMES) == sorted(z.__all__) and 'train' in dir(z)"
    assert "zfnet_lib.deconv" in loaded(code)


def test_environment_is_in_step_with_pyproject() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {f"python{project['requires-python']}"}
    for requirement in project["dependencies"] + extras["test"] + extras["dev"]:
        name, sign, version = requirement.partition(">=")
        if name != "zfnet-lib[test]":
            wanted.add(IN_CONDA.get(name, name) + sign + version)

    *conda, by_pip = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    assert {*conda, *by_pip["pip"]} - {"pip", "-e ."} == wanted


def cells_of(name: str, kind: str) -> list[str]:
    cells = json.loads((PROJECT / f"notebooks/{name}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_define_nothing_and_have_typed_parameters(path: Path) -> None:
    import papermill

    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    code = cells_of(path.stem, "code")
    readers = [cell for cell in cells if {*cell["metadata"].get("tags", [])} & {"exercise", "check"}]
    shown = set(code) - {"".join(cell["source"]) for cell in readers}
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [node for cell in shown for node in ast.walk(ast.parse(cell)) if isinstance(node, defining)]
    parameters = papermill.inspect_notebook(path)
    kinds = {name: parameter["inferred_type_name"] for name, parameter in parameters.items()}
    assert {"profile": "str", "live": "bool", "pictures": "str"}.items() <= kinds.items()
    assert set(kinds.values()) <= {"str", "int", "float", "bool"}
    assert all(parameter["help"] for parameter in parameters.values())
    assert parameters["profile"]["default"] == '"tiny"'
    first = next(cell for cell in code[1:] if "import" in cell)  # it checks what papermill injected
    assert "from zfnet_lib.paper" in first and "".join(cells[0]["source"]).startswith("# ")


@pytest.mark.parametrize("name", TOLD)
def test_notebooks_tell_their_story_in_one_form_with_the_claims_that_they_test(name: str) -> None:
    first, *others = cells_of(name, "markdown")
    assert "\n> — Zeiler & Fergus, " in first
    assert [part for part in ("**The claim.**", "**Here.**", "**Run time.**") if part not in first] == []
    prose, _, exercises = "\n".join(others).partition("\n## Exercises\n")
    assert "\n## What differs from the paper, and why\n" in prose
    assert exercises.count("```{dropdown} Answer\n") == 2 and "\n## " not in exercises
    if name in {claim.page for claim in CLAIMS.values()}:
        assert f'claims.about("{name}", profile)' in "\n".join(cells_of(name, "code"))


def make(*arguments: str, cwd: Path = PROJECT, **settings: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if "MAKE" not in name} | settings
    return subprocess.run(["make", *arguments], cwd=cwd, env=bare, capture_output=True, text=True, check=False)


def test_bare_make_lists_its_targets() -> None:
    shown = make().stdout
    assert all(f"make {target} " in shown for target in ("book", "test", "lint", "lab", "clean"))


def test_make_names_the_python_that_it_needs(tmp_path: Path) -> None:
    done = make("test", "PYTHON=false", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "false is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


NPM = """#!/bin/sh
# Packs what the rules of make take out of each package.
mkdir -p package/es5/output package/dist && cd package
touch LICENSE es5/tex-chtml.js dist/embed.js dist/a.woff2 axe.min.js && cd ..
tar czf mathjax-3.tgz package && cp mathjax-3.tgz jupyter-widgets-1.tgz && cp mathjax-3.tgz axe-core-4.tgz
rm -r package"""


def test_make_works_where_paths_hold_spaces(tmp_path: Path) -> None:
    checkout = tmp_path / "check out"
    for program, code in (("npm", NPM), ("check out/.venv/bin/zfnet", '#!/bin/sh\necho "zfnet $*"')):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text(code)
        (tmp_path / program).chmod(0o755)
    shutil.copy(PROJECT / "Makefile", checkout)
    (checkout / "book/_static").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    (checkout / ".venv/.installed").touch()
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ZFNET_DATA": str(tmp_path / "some data")}
    done = make("vendor", "weights", "doctor", cwd=checkout, **settings)
    assert (done.stdout, done.stderr, done.returncode) == ("zfnet fetch alexnet-imagenet\nzfnet doctor\n", "", 0)
    vendored = checkout / "book/_static/vendor"
    assert all((vendored / name).is_file() for name in ("mathjax/tex-chtml.js", "widgets/a.woff2"))
    assert (checkout / "_build/test-vendor/axe.min.js").is_file()
    (tmp_path / "some data/weights/alexnet-imagenet").mkdir(parents=True)
    (tmp_path / "some data/weights/alexnet-imagenet/meta.json").touch()
    assert make("weights", cwd=checkout, **settings).stdout == ""


@pytest.mark.parametrize(
    ("setting", "profile", "chosen"),
    [("PROFILE=smoke", "smoke", ""), ("PICTURES=shapes", "tiny", " -p 'pictures=shapes'")],
)
def test_settings_of_make_go_through_the_runner(setting: str, profile: str, chosen: str) -> None:
    plan = make("-n", "book", setting).stdout
    assert f"zfnet run --profile {profile}{chosen}\n" in plan
    assert f"zfnet book --profile {profile}\n" in plan
    assert "jupyter-book build" not in plan

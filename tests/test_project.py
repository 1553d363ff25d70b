"""The project's own rules: one set of dependencies, imports that go down, thin notebooks."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from zfnet_lib.claims import TESTS
from zfnet_lib.files import PROJECT

LIBRARY = PROJECT / "zfnet_lib"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))

# Modules by floor, from the ground up. A module imports from lower floors only; `__init__` is the public face.
FLOORS = [
    ["files"],
    ["machine", "tables", "grouping"],
    ["paper", "specs", "images", "norm", "records", "states", "spectra"],
    ["receptive", "reach", "network", "filters", "batches", "recipes"],
    ["foreign", "windows", "covered", "peaks", "datasets", "descent", "evaluation"],
    ["deconv"],
    ["checkpoints", "ranking"],
    ["weights", "training", "activations"],
    ["occlusion", "invariance", "correspondence", "sanity", "transfer", "overlap"],
    ["figures", "bench", "trainings", "retraining"],
    ["queue", "shipping", "mosaics"],
    ["atlas", "evolution"],
    ["browsers"],
    ["experiments", "notebooks"],
    ["claims", "diagnosis"],
    ["__main__"],
]
FLOOR = {module: height for height, modules in enumerate(FLOORS) for module in modules}

IN_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Packages that conda calls otherwise."""


def library_files() -> list[Path]:
    return [path for path in sorted(LIBRARY.rglob("*.py")) if path != LIBRARY / "__init__.py"]


def module_of(path: Path) -> str:
    """Return the name of a file's module or of the package that holds it."""
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Return the modules and packages of this library that a file imports, its own package left out."""
    depth = len(path.relative_to(LIBRARY).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zfnet_lib."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "zfnet_lib" and len(name) > 1}
    return found - {module_of(path)}


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_go_down_only(path: Path) -> None:
    imports = imports_of(path)
    assert {module_of(path), *imports} - FLOOR.keys() == set(), "give these modules a floor"
    assert [name for name in imports if FLOOR[name] >= FLOOR[module_of(path)]] == []


def test_a_start_waits_for_nothing_that_few_commands_need() -> None:
    slow = {"torchvision", "sympy", "sklearn", "captum", "papermill", "sphinx"}  # seconds each
    start = "import sys, zfnet_lib.__main__, zfnet_lib.experiments, zfnet_lib.claims, zfnet_lib as z"
    start += "; z.ConvNet(z.MINI); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True)
    assert not slow & set(done.stdout.split())


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_define_nothing(path: Path) -> None:
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    trees = [ast.parse("".join(cell["source"])) for cell in code]
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [node for tree in trees for node in ast.walk(tree) if isinstance(node, defining)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_open_with_a_title_and_have_typed_parameters(path: Path) -> None:
    import papermill

    parameters = papermill.inspect_notebook(path)
    kinds = {name: parameter["inferred_type_name"] for name, parameter in parameters.items()}
    assert {"profile": "str", "live": "bool", "pictures": "str"}.items() <= kinds.items()
    assert set(kinds.values()) <= {"str", "int", "float", "bool"}
    assert all(parameter["help"] for parameter in parameters.values())
    assert parameters["profile"]["default"] == '"tiny"'
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert cells[0].startswith("# ")
    first = next(cell for cell in cells[2:] if "import" in cell)  # it checks what papermill injected
    assert first.startswith(("from zfnet_lib import experiments", "from zfnet_lib import claims"))


TOLD = [path for path in NOTEBOOKS if path.stem not in ("browse", "claims")]


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_notebooks_tell_their_story_in_one_form(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    first, *others = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert "\n> — Zeiler & Fergus, " in first
    assert [part for part in ("**The claim.**", "**Here.**", "**Run time.**") if part not in first] == []
    prose, _, exercises = "\n".join(others).partition("\n## Exercises\n")
    assert "\n## What differs from the paper, and why\n" in prose
    assert exercises.count("```{dropdown} Answer\n") == 2 and "\n## " not in exercises


@pytest.mark.parametrize("page", sorted({test.page for test in TESTS.values()} & {path.stem for path in TOLD}))
def test_a_notebook_shows_the_claims_that_are_tested_by_it(page: str) -> None:
    cells = json.loads((PROJECT / f"notebooks/{page}.ipynb").read_text())["cells"]
    assert any(f'claims.about("{page}", profile)' in "".join(cell["source"]) for cell in cells)


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


@pytest.mark.parametrize("setting", ["PROFILE=smoke", "PICTURES=shapes"])
def test_settings_of_make_go_through_the_runner(setting: str) -> None:
    plan = make("-n", "book", setting).stdout
    profile = "smoke" if "smoke" in setting else "tiny"
    chosen = " -p pictures=shapes" if "shapes" in setting else ""
    assert f"zfnet run --profile {profile}{chosen}\n" in plan
    assert f"zfnet book --profile {profile}\n" in plan
    assert "jupyter-book build" not in plan

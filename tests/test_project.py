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

from zfnet_lib.files import PROJECT
from zfnet_lib.paper.claims import CLAIMS

LIBRARY = PROJECT / "zfnet_lib"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))

BESIDE = {"datasets", "paper", "browser", "bench", "runner", "doctor", "__main__"}
"""What stands beside the core."""

IN_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Packages that conda calls otherwise."""


def module_of(path: Path) -> str:
    """Return the dotted name of a file's module."""
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """Return for every module of the library those that it imports when it is loaded."""
    paths = {module_of(path): path for path in LIBRARY.rglob("*.py")}
    found = {}
    for module, path in paths.items():
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        found[module] = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{base}.{node.module}" if node.module else base
                named = {f"{base}.{alias.name}" for alias in node.names}
                found[module] |= {name if name in paths else base for name in named} - {module}
    return found


def test_no_modules_import_each_other() -> None:
    graph, ended = imports(), set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in ended:
            for other in graph[module]:
                visit(other, (*way, module))
            ended.add(module)

    for module in graph:
        visit(module, ())


def test_the_core_imports_nothing_of_the_reproduction() -> None:
    show = "import sys, zfnet_lib; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    core = {name for name in loaded if name.startswith("zfnet_lib")}
    assert len(core) <= 20 and not {name.split(".")[1] for name in core - {"zfnet_lib"}} & BESIDE
    assert not loaded & {"matplotlib", "IPython", "papermill", "skimage"}


def test_a_start_waits_for_nothing_that_few_commands_need() -> None:
    slow = {"torchvision", "sympy", "sklearn", "captum", "papermill", "sphinx"}  # seconds each
    start = "import sys, zfnet_lib.__main__, zfnet_lib.paper.numbers, zfnet_lib.paper.claims, zfnet_lib as z"
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
    assert "from zfnet_lib.paper" in first


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


@pytest.mark.parametrize("page", sorted({claim.page for claim in CLAIMS.values()} & {path.stem for path in TOLD}))
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

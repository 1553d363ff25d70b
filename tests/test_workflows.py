"""The files that other machines read: workflows, the Snakefile and its profiles."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from zfnet_lib.files import PROJECT
from zfnet_lib.paper.runner import notebook_names

WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
PROFILES = sorted((PROJECT / "workflow/profiles").glob("*/config.yaml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_is_there(path: Path) -> None:
    steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        else:
            program, name = step["run"].split()
            assert name in targets if program == "make" else (PROJECT / name).exists()


def test_tests_run_on_every_python_that_is_allowed() -> None:
    allowed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, last = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", allowed).groups())
    workflow = yaml.safe_load((PROJECT / ".github/workflows/tests.yml").read_text())
    pythons = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in range(first, last)]


def test_profiles_go_on_after_failures_and_interruptions() -> None:
    assert [path.parent.name for path in PROFILES] == ["default", "kubernetes", "slurm"]
    for path in PROFILES:
        chosen = yaml.safe_load(path.read_text())
        assert chosen["keep-going"] and chosen["rerun-incomplete"] and chosen["rerun-triggers"] == ["mtime"]


def test_the_snakefile_imports_what_is_there() -> None:
    source = (PROJECT / "workflow/Snakefile").read_text()
    found = re.findall(r"^from (zfnet_lib\S*) import (.+)$", source, re.MULTILINE)
    names = [f"{module}.{name}" for module, listed in found for name in listed.split(", ")]
    assert len(names) > 5 and all(resolve_name(name) is not None for name in names)


@pytest.mark.skipif(not importlib.util.find_spec("snakemake"), reason="no Snakemake (make cluster)")
@pytest.mark.parametrize("profile", [path.parent.name for path in PROFILES])
def test_the_graph_is_whole_in_every_profile(profile: str) -> None:
    volume = ["--default-storage-prefix", str(PROJECT)] if profile == "kubernetes" else []
    dry = ["--cores", "2", "--dry-run", "--quiet", "rules", "--workflow-profile", profile, *volume, "--forceall"]
    command = [sys.executable, "-m", "snakemake", *dry, "paper"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    jobs = {rule: int(count) for rule, count in found}
    assert jobs["data"] == 4  # ImageNet, Caltech-101, Caltech-256, VOC 2012
    assert jobs["notebook"] == len(notebook_names()) and jobs["overlap"] == 3 and jobs["train"] > 20
    assert jobs["weights"] == jobs["paper"] == jobs["mine"] == 1
    assert jobs["total"] == sum(jobs.values()) - jobs["total"]

"""Notebooks for students: their exercises fail their checks, the solutions pass."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from zfnet_lib.files import PROJECT


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("student")
    subprocess.run([sys.executable, PROJECT / "notebooks/student.py", out], check=True, capture_output=True)
    return out


def test_students_get_every_exercise_and_no_answer_and_fail_every_check(made):
    originals = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    chapters = [path.name for path in originals if "### BEGIN SOLUTION" in path.read_text()]
    assert len(chapters) >= 17
    for path in originals:
        shown = (made / path.name).read_text()
        assert "SOLUTION" not in shown and "Answer<" not in shown and "{dropdown}" not in shown
        cells = nbformat.reads(shown, 4).cells
        assert not [cell for cell in cells if cell.cell_type == "markdown" and re.search(r"\{\w+\}`", cell.source)]
        cells = [cell.source for cell in cells if {*cell.metadata.get("tags", [])} & {"exercise", "check"}]
        assert len(cells) == 2 * (path.name in chapters)
        if cells:
            with pytest.raises(NotImplementedError, match="write this"):
                exec("\n".join(cells), {})
            with pytest.raises(NameError):  # nor does the check pass without the exercise
                exec(cells[1], {})


def test_the_solutions_run_and_pass(made):
    notebook = nbformat.read(made / "solutions.ipynb", 4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    said = [cell.outputs[-1]["data"]["text/plain"] for cell in checks]
    assert len(said) >= 17 and all(each.strip("'\"").startswith("Right") for each in said)
    answers = "\n".join(cell.source for cell in notebook.cells)
    assert answers.count("<details><summary>Answer</summary>") >= 2 * len(said) and "SOLUTION" not in answers

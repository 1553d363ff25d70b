"""Make the notebooks for students, without answers, and one with all of them.

`python notebooks/student.py OUT`: the notebooks hold the answers in dropdowns
and between the marks of a solution, which are nbgrader's too.
"""

import re
import sys
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
ANSWER = re.compile(r"\n+ *```\{dropdown\} Answer\n.*?\n *```", re.DOTALL)
SOLUTION = re.compile(
    r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION\n?",
    re.DOTALL | re.MULTILINE,
)
DROPDOWN = re.compile(
    r"^( *)```\{dropdown\} Answer\n(.*?)\n *```", re.DOTALL | re.M
)
ROLE = re.compile(r"\{\w+\}`(?:([^`<]+) <)?/?(?:\w+/)*([^`>]+)>?`")
GAP = r'\1raise NotImplementedError("write this")\n'


def plain(text):
    """Turn the book's marks into what JupyterLab shows: titles and folds."""
    folded = r"\1<details><summary>Answer</summary>\n\n\2\n\n\1</details>"
    return ROLE.sub(lambda role: role[1] or role[2], DROPDOWN.sub(folded, text))


def unanswered(notebook):
    """Take the answers out of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(ANSWER.sub("", cell.source))
        open_ = SOLUTION.sub(GAP, cell.source)
        cell.source = open_.rstrip("\n")
        if "exercise" in cell.metadata.get("tags", []):
            cell.metadata.tags.remove("hide-input")
    return notebook


def answers(notebook):
    """Return the exercises with their answers, under the notebook's title."""
    numbers = range(len(notebook.cells))
    starts = (i for i in numbers if "## Exercises" in notebook.cells[i].source)
    cells = notebook.cells[next(starts, len(notebook.cells)) :]
    if cells:
        title = notebook.cells[0].source.partition("\n")[0]
        exercises = cells[0].source.partition("## Exercises")[2]
        cells[0].source = title + "\n" + exercises
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
        cell.source = SOLUTION.sub(r"\2", cell.source).rstrip("\n")
    return cells


def main(out: Path) -> None:
    """Write the notebooks, and `solutions.ipynb` beside them."""
    out.mkdir(parents=True, exist_ok=True)
    first, *_ = paths = sorted(HERE.glob("*.ipynb"))
    kernel = nbformat.read(first, 4).metadata
    solutions = nbformat.v4.new_notebook(metadata=kernel)
    for path in paths:
        solutions.cells += answers(nbformat.read(path, 4))
        nbformat.write(unanswered(nbformat.read(path, 4)), out / path.name)
    for number, cell in enumerate(solutions.cells):
        cell.id = f"answer-{number}"
    nbformat.write(solutions, out / "solutions.ipynb")
    print(f"{out}: the notebooks without answers, and solutions.ipynb")


if __name__ == "__main__":
    sys.exit(__doc__) if len(sys.argv) != 2 else main(Path(sys.argv[1]))

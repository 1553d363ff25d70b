"""What notebooks start from: profiles, pictures, parameters, and what is said of them."""

from contextlib import nullcontext
from dataclasses import replace

import papermill
import pytest
from planted import record

from zfnet_lib.files import PROJECT, ZfnetError
from zfnet_lib.paper import setting, table1_2


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("typo = 1", "there is no parameter 'typo'; the parameters of this notebook are profile, live, size, maps"),
        ('profile = "smoke"\nPictures = "photos"', "there is no parameter 'Pictures'"),
        ('live = "no"', "the parameter live takes bool, not 'no'"),
        ("maps = 2.0", "the parameter maps takes int, not 2.0"),
        ("maps = True", "the parameter maps takes int, not True"),
        ("profile = None", "the parameter profile takes str, not None"),
        ('profile = "smoke"\nlive = True\nsize = 2\nmaps = 3', ""),
    ],
)
def test_what_papermill_injects_is_checked(cell, sentence):
    notebook = {}
    exec('profile: str = "tiny"\nlive: bool = False\nsize: float = 1.5\nmaps: int = 6', notebook)
    exec(cell, notebook)
    notebook["In"] = ["", "profile: str …", f"# Parameters\n{cell}\n", "typo = 2"]
    with pytest.raises(ZfnetError, match=sentence) if sentence else nullcontext():
        setting.check_parameters(notebook)


def test_papermill_alone_ends_at_a_misspelt_parameter(tmp_path):
    fig3, how = PROJECT / "notebooks/fig3.ipynb", {"cwd": PROJECT / "notebooks", "progress_bar": False}
    with pytest.raises(papermill.PapermillExecutionError, match="there is no parameter 'netwrok'"):
        papermill.execute_notebook(fig3, tmp_path / "out.ipynb", {"netwrok": "krizhevsky"}, **how)


def test_the_seconds_of_records_add_up_over_the_parts_of_the_work():
    found = record("share", 1.0, "%", spec="mini", data="shapes")
    made = [replace(found.provenance, seconds=seconds) for seconds in (1.0, 2.5, 4.0, 0.5, 3.0)]
    source = setting.source_of([replace(found, provenance=each) for each in made])
    assert source.provenance.seconds == 7.0
    assert (source.network, source.pictures) == ("mini", "shapes")


@pytest.mark.parametrize("what", [setting.profile_of, setting.network_of, table1_2.table1, table1_2.table2])
def test_a_profile_that_does_not_exist_is_named(what):
    with pytest.raises(ZfnetError, match="there is no profile 'huge'; choose one of smoke, tiny, paper"):
        what("huge")


def test_a_page_that_needs_layers_in_a_row_says_so_of_another_network(tmp_path):
    (tmp_path / "own.py").write_text("from torchvision.models import resnet18 as make\n")
    with pytest.raises(ZfnetError, match=r"own.py:make is no plain sequence of layers, .*`zfnet show`.* take it"):
        setting.network_of("tiny", f"{tmp_path}/own.py:make")

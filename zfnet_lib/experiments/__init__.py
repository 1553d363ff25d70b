"""The only door for notebooks and command line: an experiment's name and profile in, its result out.

A notebook that comes in by it has its parameters checked, whoever runs it.
"""

import sys

from .architecture import Sizes, fig3, table_2_sizes
from .atlases import microscope, network_atlas
from .benchmarks import benchmark
from .cards import overlaps, weight_card
from .deconvnet import Block, Mosaics, ProjectedUnit, Shown, fig1, fig2, fig2_whole, project_picture
from .development import Development, Feature
from .grouped import groups
from .learning import Comparison, Curves, contest, missing_table, precisions, table1, table2, training
from .moments import fig4
from .occluding import Occlusions, fig6, fig6_objects, looking
from .parts import Parts, correspondence
from .robustness import Robustness, invariance
from .setting import (
    PROFILES,
    Profile,
    Setting,
    Source,
    check_parameters,
    class_names,
    network_of,
    opened,
    pictures_of,
    profile_of,
    training_of,
)
from .several import table5
from .stems import Stems, fig5
from .transfer_tables import Compared, FewShot, fig7, table3, table4, table6
from .transferring import SOURCES, transferred
from .trust import Randomisation, Trust, sanity

check_parameters(vars(sys.modules["__main__"]))

__all__ = [
    "PROFILES",
    "SOURCES",
    "Block",
    "Compared",
    "Comparison",
    "Curves",
    "Development",
    "Feature",
    "FewShot",
    "Mosaics",
    "Occlusions",
    "Parts",
    "Profile",
    "ProjectedUnit",
    "Randomisation",
    "Robustness",
    "Setting",
    "Shown",
    "Sizes",
    "Source",
    "Stems",
    "Trust",
    "benchmark",
    "class_names",
    "contest",
    "correspondence",
    "fig1",
    "fig2",
    "fig2_whole",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "fig6_objects",
    "fig7",
    "groups",
    "invariance",
    "looking",
    "microscope",
    "missing_table",
    "network_atlas",
    "network_of",
    "opened",
    "overlaps",
    "pictures_of",
    "precisions",
    "profile_of",
    "project_picture",
    "sanity",
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "table_2_sizes",
    "training",
    "training_of",
    "transferred",
    "weight_card",
]

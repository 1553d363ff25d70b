"""The only door for notebooks and command line: an experiment's name and profile in, its result out."""

from .architecture import Sizes, fig3, table_2_sizes
from .cards import overlaps, weight_card
from .deconvnet import Block, Mosaics, ProjectedUnit, Shown, fig1, fig2, project_picture
from .learning import Comparison, Curves, contest, missing_table, precisions, table1, table2, training
from .setting import PROFILES, Profile, Source, network_of, pictures_of, profile_of

__all__ = [
    "PROFILES",
    "Block",
    "Comparison",
    "Curves",
    "Mosaics",
    "Profile",
    "ProjectedUnit",
    "Shown",
    "Sizes",
    "Source",
    "contest",
    "fig1",
    "fig2",
    "fig3",
    "missing_table",
    "network_of",
    "overlaps",
    "pictures_of",
    "precisions",
    "profile_of",
    "project_picture",
    "table1",
    "table2",
    "table_2_sizes",
    "training",
    "weight_card",
]

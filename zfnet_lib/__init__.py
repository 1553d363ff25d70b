"""A reproduction of Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks* (ECCV 2014)."""

from .architecture import KRIZHEVSKY, MINI, TABLE_2, ZFNET
from .deconv import Unit, deconv, deconv_units, project, unpool
from .files import ZfnetError
from .network import ConvNet
from .occlusion import Occlusion, occlude
from .strongest import Ranking, TopUnits, strongest
from .training import train
from .weights import load_network, save_network

__all__ = [
    "KRIZHEVSKY",
    "MINI",
    "TABLE_2",
    "ZFNET",
    "ConvNet",
    "Occlusion",
    "Ranking",
    "TopUnits",
    "Unit",
    "ZfnetError",
    "deconv",
    "deconv_units",
    "load_network",
    "occlude",
    "open_dataset",
    "project",
    "save_network",
    "strongest",
    "train",
    "unpool",
]


def __getattr__(name: str):
    """Return `open_dataset` from the data sets, which the core does without until somebody opens one."""
    if name == "open_dataset":
        from .datasets import open_dataset

        return open_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

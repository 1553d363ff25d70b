"""A reproduction of Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks* (ECCV 2014)."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever reads the code; at run time a name is imported when somebody asks for it
    from .architecture import KRIZHEVSKY, MINI, TABLE_2, ZFNET, Unit
    from .datasets import open_dataset
    from .deconv import deconv, deconv_units, project, unpool
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
_HOMES = {"ConvNet": "network", "ZfnetError": "files", "open_dataset": "datasets", "train": "training"}
_HOMES |= dict.fromkeys(("KRIZHEVSKY", "MINI", "TABLE_2", "ZFNET", "Unit"), "architecture")
_HOMES |= dict.fromkeys(("deconv", "deconv_units", "project", "unpool"), "deconv")
_HOMES |= dict.fromkeys(("Occlusion", "occlude"), "occlusion")
_HOMES |= dict.fromkeys(("Ranking", "TopUnits", "strongest"), "strongest")
_HOMES |= dict.fromkeys(("load_network", "save_network"), "weights")


class _Package(ModuleType):
    """Imports public names when somebody asks for them: torch takes seconds, which `zfnet --help` need not."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):  # `deconv` is the function, not its module
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *__all__]


sys.modules[__name__].__class__ = _Package

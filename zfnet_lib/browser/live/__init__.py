"""The live browser of JupyterLab: its state in plain classes, and the panes that show it."""

from .browser import LiveBrowser, live_browser
from .explorer import Explorer, View
from .learning import RecordedTraining, TrainingHere, recorded_trainings
from .nine import Nine
from .occluder import Hidden, Occluder
from .uploads import read_upload

__all__ = [
    "Explorer",
    "Hidden",
    "LiveBrowser",
    "Nine",
    "Occluder",
    "RecordedTraining",
    "TrainingHere",
    "View",
    "live_browser",
    "read_upload",
    "recorded_trainings",
]

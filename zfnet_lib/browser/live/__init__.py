"""The live browser of JupyterLab: its state in plain classes, and the panes that show it."""

from .browser import LiveBrowser, live_browser
from .occluder import Occluded, Occluder
from .strongest import StrongestUnits
from .training import RecordedTraining, TrainingHere, recorded_trainings
from .units import Explorer, View
from .widgets import read_upload

__all__ = [
    "Explorer",
    "LiveBrowser",
    "Occluded",
    "Occluder",
    "RecordedTraining",
    "StrongestUnits",
    "TrainingHere",
    "View",
    "live_browser",
    "read_upload",
    "recorded_trainings",
]

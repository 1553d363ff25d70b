"""The live browser of JupyterLab: panes that look at one picture, at data sets and at trainings."""

from .browser import LiveBrowser, live_browser
from .widgets import read_upload

__all__ = ["LiveBrowser", "live_browser", "read_upload"]

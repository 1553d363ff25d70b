"""Browsers of layers and features: linked pictures for pages without a kernel, and a live one for JupyterLab."""

from .linked import linked_browser
from .live import Explorer, live_browser

__all__ = ["Explorer", "linked_browser", "live_browser"]

"""Browsers of layers and features: linked pictures for pages without a kernel, and a live one for JupyterLab."""

from .live import live_browser
from .pages import linked_browser

__all__ = ["linked_browser", "live_browser"]

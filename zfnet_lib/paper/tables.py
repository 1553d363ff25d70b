"""The former place of tables and sentences."""

from .records import Sentence as Note
from .records import Table

__all__ = ["Note", "Table"]

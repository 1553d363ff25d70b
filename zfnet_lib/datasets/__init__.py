"""Data sets: one table (`DATASETS`), one opener (`open_dataset`), their fetching and packing."""
# ruff: noqa: F401

from .fetch import fetch_dataset
from .folders import DENSE
from .pack import Pack, open_pack, pack_dataset, pack_in_memory, whole_pack
from .samples import DataError, Dataset, MissingDataError, Pooled, Sample, mask_box
from .table import (
    DATASETS,
    Archive,
    DatasetEntry,
    dataset_entry,
    dataset_folder,
    open_dataset,
    open_to_look,
)

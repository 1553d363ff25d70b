"""Data sets: one table (`DATASETS`), one opener (`open_dataset`), their fetching and packing."""

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
    file_name,
    open_dataset,
    open_to_look,
    splits_of,
)

__all__ = [
    "DATASETS",
    "DENSE",
    "Archive",
    "DataError",
    "Dataset",
    "DatasetEntry",
    "MissingDataError",
    "Pack",
    "Pooled",
    "Sample",
    "dataset_entry",
    "dataset_folder",
    "fetch_dataset",
    "file_name",
    "mask_box",
    "open_dataset",
    "open_pack",
    "open_to_look",
    "pack_dataset",
    "pack_in_memory",
    "splits_of",
    "whole_pack",
]

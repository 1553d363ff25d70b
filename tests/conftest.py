"""What all tests share: reproducible generated cases, and a data folder of their own."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("zfnet", derandomize=True, deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile("zfnet")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `ZFNET_DATA`."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("ZFNET_DATA", str(folder))
    return folder

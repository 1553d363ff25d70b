"""What all tests share: reproducible generated cases, a data folder of their own, one Chromium and one server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pages
import pytest

os.environ["ZFNET_DEVICE"] = "cpu"  # where there is a GPU as well, tests are of the processor
hypothesis.settings.register_profile("zfnet", derandomize=True, deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile("zfnet")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `ZFNET_DATA`."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("ZFNET_DATA", str(folder))
    return folder


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `ZFNET_RESULTS`."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture(scope="session")
def chromium():
    """The Chromium of all tests, which reaches this machine only."""
    if not pages.CHROMIUM:
        pytest.skip("no Chromium here")
    with pages.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """Return the address of a file below pytest's own folder, which is served."""
    base = tmp_path_factory.getbasetemp()
    with pages.served(base) as root:
        yield lambda path: f"{root}/{path.relative_to(base).as_posix()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that drive Chromium last: beside the event loop of Playwright there can be no other."""
    driving = {item.path for item in items if "chromium" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in driving)

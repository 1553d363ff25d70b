"""What the machine can do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zfnet_lib.machine import has_bf16, place
from zfnet_lib.records import device_name


@pytest.mark.parametrize(("flags", "answer"), [("sse avx512_bf16", True), ("sse avx2 fma", False), (None, None)])
def test_bf16_instructions_are_read_from_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, answer: bool | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"flags : {flags}\n")
    assert has_bf16(cpuinfo) is answer


@pytest.mark.parametrize("recent", [True, False])
def test_apples_gpu_is_a_device(monkeypatch: pytest.MonkeyPatch, recent: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: recent and major <= 14)
    assert place() == "mps"
    assert has_bf16() is recent
    assert device_name("mps").endswith(", GPU")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert place() == "cpu"

"""What the machine can do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zfnet_lib.machine import has_bf16


@pytest.mark.parametrize(("flags", "answer"), [("sse avx512_bf16", True), ("sse avx2 fma", False), (None, None)])
def test_bf16_instructions_are_read_from_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, answer: bool | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"flags : {flags}\n")
    assert has_bf16(cpuinfo) is answer

"""What the machine can do."""

import multiprocessing
import os
import resource
import signal
from types import SimpleNamespace

import psutil
import pytest
import torch

from zfnet_lib.files import ZfnetError
from zfnet_lib.machine import DEVICE, checked_device, fitting, has_bf16, in_processes, own_device, process_group
from zfnet_lib.paper.records import device_name


@pytest.mark.parametrize(("flags", "answer"), [("sse avx512_bf16", True), ("sse avx2 fma", False), (None, None)])
def test_bf16_instructions_are_read_from_the_processor(tmp_path, monkeypatch, flags, answer):
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"flags : {flags}\n")
    assert has_bf16(cpuinfo) is answer


def squared(x: int) -> torch.Tensor:
    """Square a number where no file can be made, and so no shared memory."""
    if multiprocessing.parent_process():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return torch.full((300, 300), x**2)


@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_processes_give_all_results_in_order_without_shared_memory(n: int):
    assert [int(found[0, 0]) for found in in_processes(squared, range(10), n)] == [x**2 for x in range(10)]
    assert not multiprocessing.active_children()


def failing(x: int) -> int:
    return 1 // (5 - x)


def killed(x: int) -> int:
    return os.kill(os.getpid(), signal.SIGKILL) if x == 5 else x


ENDED = "^a process that read pictures ended before its work, perhaps for lack of memory; let fewer processes work"


@pytest.mark.parametrize(
    ("job", "error", "sentence"), [(failing, ZeroDivisionError, "integer division"), (killed, ZfnetError, ENDED)]
)
def test_what_goes_wrong_in_a_process_is_said_and_nobody_waits(job, error: type, sentence: str):
    with pytest.raises(error, match=sentence):
        list(in_processes(job, range(40), 2))
    assert not multiprocessing.active_children()


def test_processes_end_when_nobody_wants_the_rest():
    found = in_processes(squared, range(40), 2)
    next(found)
    assert len(multiprocessing.active_children()) == 2
    found.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("recent", [True, False])
def test_apples_gpu_is_a_device(monkeypatch, recent: bool):
    monkeypatch.delenv(DEVICE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: recent and major <= 14)
    assert own_device() == "mps"
    assert has_bf16() is recent
    assert device_name("mps").endswith(", GPU")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert own_device() == "cpu"


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "found"),
    [
        ("", 2, True, "cuda:0"),
        ("cuda", 2, False, "cuda:0"),
        ("cuda:1", 2, False, "cuda:1"),
        ("cpu", 2, True, "cpu"),
        ("mps", 2, True, "mps"),
        ("", 0, True, "mps"),
        ("", 0, False, "cpu"),
        ("cuda:2", 2, False, r"'cuda:2' is not here; choose one of cpu, cuda:0, cuda:1, or leave it out"),
        ("cuda", 0, True, r"'cuda' is not here; choose one of cpu, mps, or leave it out"),
        ("mps", 0, False, r"'mps' is not here; choose one of cpu, or leave it out"),
        *((no, 2, True, "no device .*choose cpu, cuda or mps") for no in ("gpu", "cuda:", "cuda:-1", "xpu")),
    ],
)
def test_a_gpu_computes_unless_another_device_is_asked_for(monkeypatch, asked, cuda, mps, found):
    monkeypatch.setenv(DEVICE, asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if found.startswith(("c", "m")):
        assert own_device() == found
    else:
        with pytest.raises(ZfnetError, match=found):
            checked_device(asked)
    monkeypatch.setenv("LOCAL_RANK", "2")
    if asked in ("mps", "cuda:1"):
        with pytest.raises(ZfnetError, match="take the device cuda, each its own GPU, or cpu"), process_group():
            pass
    if found == "cuda:0":
        with pytest.raises(ZfnetError, match="than GPUs here; give torchrun --nproc-per-node=2"), process_group():
            pass


def test_as_many_parts_are_computed_together_as_half_of_the_free_memory_takes(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100_000, 200_000))
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    assert [fitting(each, cpu) for each in (0, 10, 100, 501, 1e30)] == [16, 16, 5, 1, 1]
    assert [fitting(each, gpu) for each in (0, 501, 1e30)] == [256, 99, 1]

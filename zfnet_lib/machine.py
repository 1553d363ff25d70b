"""Threads and processes that work on parts side by side or share a batch, the device, the memory, the allocator."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import torch
from torch import distributed

from .files import ZfnetError


@contextmanager
def threads(n: int, each: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of `n` threads; inside an operation each uses `each` cores, by default its share of torch's."""
    before = torch.get_num_threads()
    share = each or max(1, before // n)
    try:
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def ahead(pool: Executor, job: Callable, parts: Iterable, depth: int) -> Iterator[Any]:
    """Yield job(part) of each part in order; only `depth` are begun beforehand, so that it stops soon."""
    coming: deque = deque()
    for part in parts:
        coming.append(pool.submit(job, part))
        if len(coming) > depth:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def in_processes(job: Callable, parts: Sequence, n: int) -> Iterator[Any]:
    """Yield job(part) of each part in order, computed by `n` processes up to two parts ahead, or here if n is 0."""
    if n == 0 or len(parts) < 2:
        yield from map(job, parts)
        return
    n = min(n, len(parts))
    pool = ProcessPoolExecutor(n, initializer=_begin_work, initargs=(job,))  # the data in a job go there once
    try:
        yield from map(pickle.loads, ahead(pool, _worked, parts, 2 * n))
    except BrokenProcessPool:
        ended = "a process that read pictures ended before its work, perhaps for lack of memory"
        raise ZfnetError(f"{ended}; let fewer processes work, and run the command again") from None
    finally:
        pool.shutdown(cancel_futures=True)


_job: Callable = print  # what a process of `in_processes` does with a part


def _begin_work(job: Callable) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits is interrupted too, and ends this one
    torch.set_num_threads(1)
    end_with_parent()


def _worked(part: Any) -> bytes:
    # As bytes: torch would pass tensors through shared memory, of which containers have little.
    return pickle.dumps(_job(part))


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` started, end at once when the one that started it does."""
    if (parent := parent_process()) is not None:

        def end() -> None:
            parent.join()
            os._exit(1)

        Thread(target=end, daemon=True).start()


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, if any, each with its own GPU; only the first one prints."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if (os.environ.get(DEVICE) or "cpu") not in ("cpu", "cuda"):
        raise ZfnetError("processes that share a batch take the device cuda, each its own GPU, or cpu")
    on_gpus = own_device().startswith("cuda")
    if on_gpus:
        here, own = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
        if own >= here:
            raise ZfnetError(f"there are more processes than GPUs here; give torchrun --nproc-per-node={here}")
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        if is_first():
            yield
        else:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
    finally:
        distributed.destroy_process_group()


def is_first() -> bool:
    """Tell whether this is the first of the processes that `torchrun` started, or the only one: it alone writes."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


DEVICE = "ZFNET_DEVICE"
"""The variable of the environment that chooses what computes: here, in notebooks, in processes begun here."""


def own_device() -> str:
    """Return this process's GPU, Nvidia's or Apple's, else the processor; or what `DEVICE` says."""
    asked = os.environ.get(DEVICE, "")
    if asked and checked_device(asked) != "cuda":
        return checked_device(asked)
    if asked or torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    # Several processes cannot exchange gradients on Apple's.
    return "mps" if torch.backends.mps.is_available() and not distributed.is_initialized() else "cpu"


def checked_device(name: str) -> str:
    """Return the name of a device, if it is here: cpu, cuda, mps, or of several GPUs cuda:1."""
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind, colon, number = name.partition(":")
    number = number if colon else "0"
    if kind not in here or not number.isdecimal():
        raise ZfnetError(f"there is no device {name!r}; choose cpu, cuda or mps, or of several GPUs one, as cuda:1")
    if int(number) >= here[kind]:
        found = (f"{kind}:{n}" if kind == "cuda" else kind for kind, most in here.items() for n in range(most))
        raise ZfnetError(f"the device {name!r} is not here; choose one of {', '.join(found)}, or leave it out")
    return name if kind == "cuda" else kind


def fitting(each: float, device: torch.device) -> int:
    """Return how many parts of so many bytes half of the free memory takes: 1 to 16, or to 256 on a GPU."""
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    return max(1, min(256 if on_gpu else 16, int(free / 2 / max(each, 1))))


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Tell whether the GPU, or without one the processor, multiplies bfloat16 itself; None where unknown."""
    device = own_device()
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    flags = {"avx512_bf16", "amx_bf16", "bf16"}  # of processors that do
    return not flags.isdisjoint(cpuinfo.read_text().split()) if cpuinfo.exists() else None


def tune_allocator() -> bool:
    """Tell glibc to keep freed memory for the next step, and return whether there was a glibc to tell.

    Large tensors are otherwise mapped, zeroed page by page and unmapped at every operation, and so are the arenas
    of threads, which therefore share one. Process-wide: programs call it at their start, importing never does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    settings = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}
    return mallopt is not None and all(mallopt(number, value) for number, value in settings.values())

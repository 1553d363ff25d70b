"""The machine: threads and processes that work alone on a part, processes that share a batch, the allocator."""

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
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import distributed

from .files import ZfnetError


@contextmanager
def threads(n: int, each: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of `n` threads; inside an operation each uses `each` cores, by default its share of torch's.

    Parts of a batch that run side by side meet once a step; threads inside every operation meet thousands of times,
    and each time wait for the slowest, which is several times slower on cores that other programs use too.
    """
    before = torch.get_num_threads()
    each = each or max(1, before // n)
    try:
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def ahead(pool: Executor, job: Callable, parts: Iterable, depth: int) -> Iterator[Any]:
    """Yield job(part) of each part in order; only `depth` are begun beforehand, so that a stop is soon."""
    coming: deque = deque()
    for part in parts:
        coming.append(pool.submit(job, part))
        if len(coming) > depth:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def in_processes(job: Callable, parts: Sequence, n: int) -> Iterator[Any]:
    """Yield job(part) of each part in order, computed by `n` processes up to two parts ahead, or here if n is 0.

    Results come through pipes: no shared memory is needed, of which containers have little. A process that ended
    before its work is a `ZfnetError`.
    """
    n = min(n, len(parts))
    if n == 0 or len(parts) == 1:
        yield from map(job, parts)
        return
    pool = ProcessPoolExecutor(n, initializer=_begin_work, initargs=(job,))  # the data in a job go there once
    try:
        yield from map(pickle.loads, ahead(pool, _worked, parts, 2 * n))
    except BrokenProcessPool:
        raise ZfnetError(
            "a process that read pictures ended before its work, perhaps for lack of memory; free memory, or let "
            "fewer processes work, and run the command again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_work(job: Callable) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits is interrupted too, and ends this one
    torch.set_num_threads(1)
    end_with_parent()


def _worked(part: Any) -> bytes:
    return pickle.dumps(_job(part))  # as bytes: torch would pass tensors through shared memory


def end_with_parent() -> None:
    """Let this process, which `multiprocessing` started, end at once when the one that started it does."""
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, each with its own GPU if there are any; else do nothing.

    The first one alone prints; errors are told by all.
    """
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        with ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield
    finally:
        distributed.destroy_process_group()


def is_first() -> bool:
    """Tell whether this is the first of the processes that `torchrun` started, or the only one: it alone writes."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_device() -> str:
    """Return this process's GPU, Nvidia's or Apple's, or the processor where there is none."""
    if torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    # Several processes cannot exchange gradients on Apple's.
    return "mps" if torch.backends.mps.is_available() and not distributed.is_initialized() else "cpu"


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Tell whether the GPU, or without one the processor, multiplies bfloat16 itself; None where unknown."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return torch.backends.mps.is_macos_or_newer(14, 0)
    flags = {"avx512_bf16", "amx_bf16", "bf16"}  # of processors that do
    return not flags.isdisjoint(cpuinfo.read_text().split()) if cpuinfo.exists() else None


def tune_allocator() -> bool:
    """Tell glibc to keep freed memory for the next step, and return whether there was a glibc to tell.

    Large tensors are otherwise mapped, zeroed page by page and unmapped at every operation; the arenas that glibc
    gives to threads are unmapped in the same way, so all threads use the one that is kept. Process-wide, so
    programs call it at their start; importing this package never does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    settings = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}
    return mallopt is not None and all(mallopt(number, value) for number, value in settings.values())

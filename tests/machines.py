"""Run the tests as other processors would round: other instruction sets, other numbers of threads.

`python tests/machines.py [--first] [PYTEST ARGUMENTS]` runs pytest in every setting, or only in the first one that
rounds unlike this machine, and prints a table; it exits with 1 where a test failed.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import time

from zfnet_lib.files import trained_root

SETTINGS = {
    "ONEDNN_MAX_CPU_ISA": ("AVX2", "AVX512_CORE", ""),
    "ATEN_CPU_CAPABILITY": ("default", "avx2", ""),
    "OMP_NUM_THREADS": ("1", "2", "4"),
}
"""Of oneDNN's convolutions, of torch's own loops, and of both; empty leaves the machine's own."""


def main(arguments: list[str]) -> int:
    """Run pytest in the settings and print a line for each."""
    settings = list(itertools.product(*SETTINGS.values()))
    if arguments[:1] == ["--first"]:
        arguments, settings = arguments[1:], settings[:1]
    failed = 0
    for values in settings:
        shutil.rmtree(trained_root(), ignore_errors=True)  # each trains what its tests look at
        chosen = {name: value for name, value in zip(SETTINGS, values, strict=True) if value}
        others = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        start = time.perf_counter()
        command = [sys.executable, "-m", "pytest", *arguments]
        ran = subprocess.run(command, env=others | chosen, capture_output=True, text=True, check=False)
        seconds, failed = time.perf_counter() - start, failed + (ran.returncode != 0)
        found = re.findall(r"^(?:FAILED|ERROR) .*", ran.stdout, re.MULTILINE)
        state = "green" if ran.returncode == 0 else "; ".join(found) or f"pytest ended with {ran.returncode}"
        print(" ".join(f"{value or 'own':12}" for value in values), f"{seconds:6.0f} s  {state}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a short command costs: whole processes from their start to their end, against what others import.

python benchmarks/start_up.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Benchmark, Clock, Contender

benchmark = Benchmark("start_up", "Start-up, whole processes, single-threaded", baseline="vocable --help")


def _process(name: str, *arguments: str) -> None:
    """Register a process of Python as a contender; {dump}, {codebook} and {out} in its arguments are the case's."""

    def run(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
        # As after an installation: modules are compiled, which the first run sees to.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        for measured in (False, True):
            with tempfile.TemporaryDirectory() as out:
                command = [sys.executable, *(item.format(**case, out=out) for item in arguments)]
                begun = time.perf_counter()
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
                _, status, usage = os.wait4(process.pid, 0)  # with the processes that it waited for
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise SystemExit(f"{command} failed")
                if measured:
                    clock.cpu += usage.ru_utime + usage.ru_stime
                    clock.wall += time.perf_counter() - begun
        unit = 1024 if sys.platform != "darwin" else 1 << 20
        return {"peak_mib": usage.ru_maxrss / unit}

    contender: Contender = run
    benchmark.contender(name)(contender)


_process("python", "-c", "pass")
_process("import vocable", "-c", "import vocable")
_process("vocable --help", "-m", "vocable", "--help")
_process("label ten frames: vocable units", "-m", "vocable", "units", "{dump}", "--codebook", "{codebook}", "--out", "{out}")
_process(
    "label ten frames: vocable fairseq dump_km_label",
    "-m", "vocable", "fairseq", "dump_km_label", "{dump}", "train", "{codebook}", "1", "0", "{out}",
)  # fmt: skip
_process("import numpy", "-c", "import numpy")
_process("import sklearn.cluster", "-c", "import sklearn.cluster")
_process("import torch", "-c", "import torch")
_process("import librosa, first feature", "-c", "import librosa; librosa.feature.mfcc")


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    dump, codebook = _dump(arguments.cache / "ten-frames")
    return {"CPU seconds of a process": {"dump": str(dump), "codebook": str(codebook)}}


def _dump(folder: Path) -> tuple[Path, Path]:
    """Write ten frames as fairseq dumps them, and a codebook for them."""
    import numpy as np

    from vocable import Codebook

    drawn = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train_0_1.npy", drawn.standard_normal((10, 39), dtype=np.float32))
    (folder / "train_0_1.len").write_text("10\n")
    codebook = folder / "codebook.safetensors"
    Codebook(drawn.standard_normal((100, 39), dtype=np.float32)).write(codebook)
    return folder, codebook


if __name__ == "__main__":
    benchmark.main(cases)

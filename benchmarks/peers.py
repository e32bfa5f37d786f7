"""Libraries that vocable is measured beside, set up as their users would want them."""

from __future__ import annotations

import os
from typing import Any

from harness import machine


def faiss_library() -> Any:
    """Return faiss, held to one thread and told what the processor is.

    faiss-cpu brings an OpenBLAS (0.3.15) that takes processors newer than itself for ones without AVX, and is then four times as
    slow as on those it knows.
    """
    if "avx512f" in machine()["flags"]:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss

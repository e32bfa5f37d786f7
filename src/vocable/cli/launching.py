"""Several processes of one command, which train together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def launch(processes: int, check: Callable[[], object]) -> None:
    """Become torchrun, which starts this command several times; do nothing in a process that it started.

    Args:
        processes: how many.
        check: refuses what every process would refuse, before there are several that do so, and torchrun tells of each.
    """
    if processes == 1 or "RANK" in os.environ:
        return
    check()
    # A restarted process would otherwise be told the address of one that died (pytorch issue 135712).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*launcher, "-m", "vocable", *sys.argv[1:]])  # noqa: S606 (no shell)

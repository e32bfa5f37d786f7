"""Where work runs, and what of it is already done."""

from vocable.execution.engine import Engine, Outcome, Work, run_shards

__all__ = ["Engine", "Outcome", "Work", "run_shards"]

"""Labels: what utterances became."""

from vocable.units.label_files import read_units, write_units
from vocable.units.units import Units, expand, run_lengths

__all__ = ["Units", "expand", "read_units", "run_lengths", "write_units"]

"""What units tell of phones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.joint_counts import JointCounts
from vocable.timelines.alignments import Alignments
from vocable.units.units import Units

SILENCES = frozenset({"", "sil", "sp", "spn", "nsn", "pau", "h#", "<sil>", "<eps>", "<unk>", "silence"})
"""Labels that stand for no phone, in lower case."""

_STRESS = re.compile(r"(?<=[A-Za-z])[012]$")


@dataclass(frozen=True)
class PhoneScores:
    """How well units tell phones apart."""

    phone_purity: float
    cluster_purity: float
    pnmi: float
    pnmi_without_silence: float
    frames: int
    utterances: int
    phones: int

    def rows(self) -> dict[str, float | int]:
        """Return name → value."""
        return asdict(self)


def phone_scores(
    units: Units,
    ids: Iterable[str],
    alignments: Alignments,
    rate: float,
    first_centre: float,
    silences: frozenset[str] = SILENCES,
) -> PhoneScores:
    """Score units against phone alignments; frame i stands at the centre of its analysis window.

    Stress digits are stripped, frames outside all intervals and utterances without an alignment are left out.

    Args:
        units: labels of utterances.
        ids: of the utterances, in the same order.
        alignments: phones.
        rate: units per second.
        first_centre: time of the first frame's centre in seconds.
        silences: labels, in lower case, that are no phones.

    Raises:
        InputError: no utterance has an alignment.
    """
    aligned = 0

    def pairs() -> Iterator[tuple[list[str], NDArray[np.intp]]]:
        nonlocal aligned
        for name, values in zip(ids, units, strict=True):
            timeline = alignments.find(name)
            if timeline is None:
                continue
            aligned += 1
            phones = timeline.labels_at(first_centre + np.arange(len(values)) / rate)
            inside = np.array([phone is not None for phone in phones], dtype=bool)
            yield [without_stress(phone) for phone in phones if phone is not None], np.asarray(values, dtype=np.intp)[inside]

    largest = int(units.values.max(initial=0)) + 1
    counts = JointCounts.of(pairs(), max(units.header.clusters or 0, largest))
    if not aligned:
        raise InputError(
            f"none of the {len(units)} utterances has an alignment in {alignments.path}: their names must be the utterances' ids"
        )
    spoken = counts.without(name for name in counts.labels if name.lower() in silences)
    return PhoneScores(
        counts.phone_purity(), counts.cluster_purity(), counts.pnmi(), spoken.pnmi(), counts.frames, aligned, len(spoken.labels)
    )


def without_stress(phone: str) -> str:
    """Return an ARPAbet phone without its stress digit: AH0 → AH."""
    return _STRESS.sub("", phone)

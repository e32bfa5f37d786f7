"""What units of segments tell of syllables, each segment taken for the syllable that it overlaps best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.joint_counts import JointCounts, mutual_information
from vocable.units.usage import entropy_of

_SPARE = 1e-4  # seconds, that the authors' code adds to what two intervals cover together


@dataclass(frozen=True)
class SyllableScores:
    """How well units of segments tell syllables apart."""

    syllable_purity: float
    """Accuracy of naming each unit's most frequent syllable."""
    cluster_purity: float
    """Accuracy of naming each syllable's most frequent unit."""
    mutual_information: float
    """In nats."""
    snmi: float
    """Mutual information over the entropy of syllables: the part of them that units tell."""
    pairs: int
    """Segments that were taken for a syllable."""
    syllables: int
    """Kinds of syllables among these."""
    units: int
    """Kinds of units among these."""

    def rows(self) -> dict[str, float | int]:
        """Return name → value."""
        return asdict(self)


def overlaps(syllables: NDArray[np.floating], segments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how well intervals overlap: what they share over what they cover; below 0 where they are apart.

    Args:
        syllables: starts and ends, of shape (syllables, 2).
        segments: of shape (segments, 2).
    """
    starts, ends = syllables[:, :1].astype(np.float64), syllables[:, 1:].astype(np.float64)
    shared = np.minimum(ends, segments[:, 1]) - np.maximum(starts, segments[:, 0])
    covered = np.maximum(ends, segments[:, 1]) - np.minimum(starts, segments[:, 0]) + _SPARE
    found: NDArray[np.float64] = shared / covered
    return found


def matched_segments(
    syllables: NDArray[np.floating], segments: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of syllables and segments, by their numbers, that overlap best all together; each is in one pair at most.

    Every one of the fewer is in a pair, though it may overlap nothing, as in SD-HuBERT's evaluation.

    Raises:
        InputError: SciPy isn't there.
    """
    if not len(syllables) or not len(segments):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise InputError("to match segments the extra is needed: pip install 'vocable[syllables]'") from error
    rows, columns = linear_sum_assignment(overlaps(syllables, segments), maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def syllable_scores(pairs: Iterable[tuple[list[str], NDArray[np.integer]]], units: int) -> SyllableScores:
    """Score units of segments.

    Args:
        pairs: of each utterance, the syllables that segments were taken for, and the units of these.
        units: there are.

    Raises:
        InputError: no segment was taken for a syllable.
    """
    joint = JointCounts.of(pairs, units)
    if not joint.frames:
        raise InputError("no segment could be taken for a syllable: are the references of these utterances?")
    shared, entropy = mutual_information(joint.counts), entropy_of(joint.counts.sum(axis=1))
    return SyllableScores(
        joint.phone_purity(),
        joint.cluster_purity(),
        shared,
        shared / entropy if entropy > 0 else 0.0,
        joint.frames,
        len(joint.labels),
        int((joint.counts.sum(axis=0) > 0).sum()),
    )

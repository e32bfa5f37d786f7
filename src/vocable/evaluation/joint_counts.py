"""How often each unit meets each phone, and the information in that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.units.usage import entropy_of

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class JointCounts:
    """Frames by reference label and unit, shape (labels, units)."""

    labels: tuple[str, ...]
    counts: Counts

    @classmethod
    def of(cls, pairs: Iterable[tuple[list[str], NDArray[np.integer]]], n_units: int) -> JointCounts:
        """Count frames of utterances, each given as a label and a unit for each frame."""
        index: dict[str, int] = {}
        counts = np.zeros((64, n_units), dtype=np.int64)
        for names, values in pairs:
            rows = np.array([index.setdefault(name, len(index)) for name in names], dtype=np.intp)
            while len(index) > len(counts):
                counts = np.concatenate([counts, np.zeros_like(counts)])
            np.add.at(counts, (rows, np.asarray(values, dtype=np.intp)), 1)
        counts = counts[: len(index)]
        order = sorted(index, key=str)
        return cls(tuple(order), counts[[index[name] for name in order]] if order else counts)

    def without(self, labels: Iterable[str]) -> JointCounts:
        """Return the counts of all other labels."""
        left_out = set(labels)
        kept = [at for at, name in enumerate(self.labels) if name not in left_out]
        return JointCounts(tuple(self.labels[at] for at in kept), self.counts[kept])

    @property
    def frames(self) -> int:
        """Frames counted."""
        return int(self.counts.sum())

    def phone_purity(self) -> float:
        """Accuracy of naming each unit's most frequent label (HuBERT, section IV-G; fairseq's "ref pur")."""
        return float(self.counts.max(axis=0, initial=0).sum() / max(self.frames, 1))

    def cluster_purity(self) -> float:
        """Accuracy of naming each label's most frequent unit (fairseq's "hyp pur")."""
        return float(self.counts.max(axis=1, initial=0).sum() / max(self.frames, 1))

    def pnmi(self) -> float:
        """Mutual information of label and unit over the entropy of the label: the part of phones that units tell."""
        entropy = entropy_of(self.counts.sum(axis=1))
        return mutual_information(self.counts) / entropy if entropy > 0 else 0.0


def mutual_information(counts: Counts) -> float:
    """Return the mutual information of rows and columns in nats."""
    joint = entropy_of(counts.ravel())
    return max(0.0, entropy_of(counts.sum(axis=1)) + entropy_of(counts.sum(axis=0)) - joint)


def normalized_mutual_information(counts: Counts) -> float:
    """Return the mutual information over the mean of both entropies; 1 where there is nothing to tell apart."""
    mean = (entropy_of(counts.sum(axis=1)) + entropy_of(counts.sum(axis=0))) / 2
    return mutual_information(counts) / mean if mean > 0 else 1.0

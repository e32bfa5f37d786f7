"""Scores of stored segments against references: boundaries, and what their units tell of syllables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.clustering.codebook import Codebook
from vocable.errors import InputError
from vocable.evaluation.boundaries import TOLERANCE, Boundaries, BoundaryCounts, boundary_counts, tuned_shift
from vocable.evaluation.syllable_quality import SyllableScores, matched_segments, syllable_scores
from vocable.recipes.stored_segments import StoredSegments
from vocable.recipes.syllable_references import Reference
from vocable.recipes.syllable_units import Level, require_same, units_of


@dataclass(frozen=True)
class BoundaryScores:
    """How well boundaries are found."""

    counts: BoundaryCounts
    shift: float
    """Seconds by which references were moved."""
    tolerance: float
    utterances: int
    missing: list[str]
    """References without segments."""

    def rows(self) -> dict[str, Any]:
        """Return name → value."""
        counts = self.counts
        return {
            "precision": counts.precision, "recall": counts.recall, "F1": counts.f1,
            "over-segmentation": counts.over_segmentation, "R-value": counts.r_value, "hits": counts.hits,
            "references": counts.references, "predictions": counts.predictions, "shift": round(self.shift, 6) + 0.0,
            "tolerance": self.tolerance, "utterances": self.utterances, "without segments": len(self.missing),
        }  # fmt: skip


def score_boundaries(
    segments: StoredSegments,
    references: Sequence[Reference],
    tuning: Sequence[Reference] = (),
    shift: float = 0.0,
    tolerance: float = TOLERANCE,
    tuned_on: StoredSegments | None = None,
) -> BoundaryScores:
    """Score the boundaries of segments.

    Args:
        segments: of the utterances.
        references: their syllables.
        tuning: syllables of other utterances, on which the shift of the best R-value is looked for.
        shift: seconds by which references are moved, where it isn't looked for.
        tolerance: seconds by which a boundary may be off.
        tuned_on: segments of these others, where they are in another folder.

    Raises:
        InputError: no reference has segments, or a shift or tolerance is none.
    """
    if not math.isfinite(shift) or not 0 <= tolerance < math.inf:
        raise InputError(f"a shift of {shift} and a tolerance of {tolerance}: give numbers of seconds, of tolerance 0 or more")
    if tuning:
        shift = tuned_shift(_paired(tuned_on or segments, tuning)[0], tolerance)
    found, missing = _paired(segments, references)
    return BoundaryScores(boundary_counts(found, shift, tolerance), shift, tolerance, len(found), missing)


def score_syllables(
    segments: StoredSegments, references: Sequence[Reference], codebook: Codebook, level: Level = "coarse"
) -> SyllableScores:
    """Score what units of segments tell of syllables.

    Args:
        segments: of the utterances, described.
        references: their syllables.
        codebook: of the units.
        level: of the codebook.

    Raises:
        InputError: no reference has segments.
        MismatchError: the codebook is for other segments.
    """
    require_same(segments, codebook)

    def pairs() -> Iterator[tuple[list[str], NDArray[np.int64]]]:
        for reference in references:
            name = segments.name_of(reference.file)
            if name is None:
                continue
            stored = segments.of(name, described=True)
            units = units_of(stored, codebook, level)
            rows, columns = matched_segments(reference.times, stored.segments)
            yield [reference.labels[at] for at in rows.tolist()], units[columns]

    missing = missing_from(segments, references)
    if len(missing) == len(references):
        raise InputError(f"{segments.folder} has no segments of any reference, such as {missing[0]}: cut their audio")
    return syllable_scores(pairs(), codebook.n_groups if level == "coarse" else len(codebook))


def missing_from(segments: StoredSegments, references: Sequence[Reference]) -> list[str]:
    """Return the references that have no segments."""
    return [reference.file for reference in references if segments.name_of(reference.file) is None]


def _paired(segments: StoredSegments, references: Sequence[Reference]) -> tuple[list[Boundaries], list[str]]:
    found: list[Boundaries] = []
    missing: list[str] = []
    for reference in references:
        name = segments.name_of(reference.file)
        if name is None:
            missing.append(reference.file)
            continue
        found.append(Boundaries.of(reference.times, segments.of(name).segments))
    if not found:
        raise InputError(f"{segments.folder} has no segments of any reference, such as {references[0].file}: cut their audio")
    return found, missing

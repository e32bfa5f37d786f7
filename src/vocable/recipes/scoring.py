"""Scores of a label file: how its units are used, what they tell of phones, and how far two labellings agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.errors import InputError, MismatchError
from vocable.evaluation.unit_quality import SILENCES, PhoneScores, phone_scores
from vocable.recipes.checking import check_surveyed, read_rows_of
from vocable.recipes.companion_manifest import manifest_beside
from vocable.timelines.alignments import Alignments
from vocable.units.label_files import read_units
from vocable.units.units import Survey, Units
from vocable.units.usage import UsageScores, usage_scores

_WORTH_SAYING = 0.02  # of the frames


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What units are scored against."""

    alignments: Path
    """A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels."""
    tier: str | None = None
    """Tier of the TextGrids, or column of the tables."""
    rate: float | None = None
    """Labels a second of a file of per-frame labels; by default as many as units."""
    silence: tuple[str, ...] = ()
    """More labels that stand for silence."""

    def check(self) -> None:
        """Refuse options that go with another kind of alignments, and rates that can't be.

        Raises:
            InputError: names one.
        """
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise InputError(f"--alignment-rate {self.rate}: give a number above 0")
        if self.alignments.is_dir() and self.rate is not None:
            raise InputError(
                f"--alignment-rate is for a file of per-frame labels, and {self.alignments} is a folder: leave it out"
            )
        if self.alignments.is_file() and self.tier is not None:
            raise InputError(f"--tier is for a folder of TextGrids or tables, and {self.alignments} is a file: leave it out")


@dataclass(frozen=True)
class UnitScores:
    """How good units are."""

    usage: UsageScores
    survey: Survey
    phones: PhoneScores | None = None
    notes: tuple[str, ...] = ()
    """What a reader of the scores should know."""

    def rows(self) -> dict[str, Any]:
        """Return name → value, as JSON holds it."""
        phones = {} if self.phones is None else {"phones": self.phones.rows()}
        counts = {"histogram": self.survey.histogram.tolist(), "run_lengths": self.survey.durations.tolist()}
        return {"usage": self.usage.rows(), **phones, **counts, "notes": list(self.notes)}


def score_units(
    labels: Path, truth: Truth | None = None, manifest: Path | None = None, rate: float | None = None, window: float | None = None
) -> UnitScores:
    """Score a label file; with alignments, frame i stands at the centre of its analysis window.

    Args:
        labels: of any form.
        truth: phones.
        manifest: whose rows the labels are; by default the one of the same name beside them.
        rate: units per second, where the labels don't say.
        window: seconds of an analysis window, where the labels don't say, and of per-frame labels; 0.025 by default.

    Raises:
        InputError: the rate or the utterances' names can't be known, or there is no alignment.
        MismatchError: the labels don't fit the manifest, the rate or the alignments.
    """
    for name, value in (("--rate", rate), ("--window", window)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} {value}: give a number above 0")
    if truth is not None:
        truth.check()
    units = read_units(labels)
    survey = Survey.of(units, units.header.clusters)
    notes = check_surveyed(labels, units.header, survey, manifest=manifest, rate=rate)
    if window is not None and units.header.features and (truth is None or truth.alignments.is_dir()):
        raise InputError(f"--window {window:g}: {labels} says itself what its frames are; leave it out")
    window = 0.025 if window is None else window
    rate = units.header.rate or rate
    usage = usage_scores(survey, units.header.clusters, rate)
    if truth is None:
        return UnitScores(usage, survey, None, tuple(notes))
    if rate is None:
        raise InputError(f"{labels} doesn't say how many units a second has: give --rate, 100 for MFCC, 50 for layers of HuBERT")
    times = _times(units, rate, window)
    alignments = Alignments(truth.alignments, truth.tier, truth.rate or rate, window / 2)
    silences = SILENCES | {item.lower() for item in truth.silence}
    phones = phone_scores(units, _ids(labels, units, manifest), alignments, rate, times, silences)
    if phones.utterances < len(units):
        notes = [*notes, f"{phones.utterances} of {len(units)} utterances have an alignment; the others were not scored"]
    if phones.frames_outside > _WORTH_SAYING * (phones.frames + phones.frames_outside):
        whole = phones.frames + phones.frames_outside
        notes = [*notes, f"{phones.frames_outside:,} of {whole:,} frames lie outside all intervals, and were not scored"]
    return UnitScores(usage, survey, phones, tuple(notes))


def _ids(labels: Path, units: Units, manifest: Path | None) -> tuple[str, ...]:
    if units.ids is not None:
        return units.ids
    rows = manifest or manifest_beside(labels.with_suffix(""))
    if rows is None:
        raise InputError(f"{labels} doesn't hold utterance ids, and no manifest of its name lies beside it: give --manifest")
    found = read_rows_of(rows, units.header)
    if len(found) != len(units):
        raise MismatchError(f"{labels} has {len(units)} lines, but {rows} has {len(found)} rows: give its own manifest")
    return found.ids


def _times(units: Units, rate: float, window: float) -> Callable[[int], NDArray[np.float64]]:
    """Return what tells the centres of an utterance's first frames, in seconds."""
    if not units.header.features:
        return lambda count: window / 2 + np.arange(count) / rate
    spec = FeatureSpec.from_json({**units.header.features, "recorded": {}})
    return lambda count: spec.frame_times(np.arange(count))

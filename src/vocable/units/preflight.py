"""Labels looked over before a model is trained on them: what would go wrong silently is refused, with the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import resampled_length
from vocable.audio.manifest import Manifest
from vocable.errors import InputError, MismatchError
from vocable.units.dictionary import require_clusters
from vocable.units.units import Survey, UnitsHeader

_TOLERANCE = 1  # frames
# Samples of a frame and between frames, where only the rate is known: MFCC and log-mel at 100 Hz, HuBERT's layers at 50 Hz.
_USUAL_FRAMES = {100.0: (400, 160), 50.0: (400, 320)}


def check_labels(
    name: str,
    header: UnitsHeader,
    survey: Survey,
    manifest: Manifest | None = None,
    dictionary: Path | None = None,
    lengths: NDArray[np.int64] | None = None,
    rate: float | None = None,
) -> list[str]:
    """Check that labels fit what they are to be used with.

    Args:
        name: of the labels, for messages.
        header: what made the labels, as far as it is known.
        survey: of the labels.
        manifest: whose rows they should be.
        dictionary: that should have their symbols.
        lengths: frames of each utterance, from a `.len`.
        rate: labels per second that the training will assume.

    Returns:
        What could not be checked, a sentence each.

    Raises:
        InputError: the rate can't be one.
        MismatchError: says what doesn't fit and what to do.
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise InputError(f"--rate {rate:g}: labels a second are a number above 0; give such as 100 for MFCC, or 50 for HuBERT")
    notes = []
    if header.codebook is None:
        notes.append(f"{name} has no header of ours: checked by counts and lengths alone")
    if rate is not None and header.rate is not None and rate != header.rate:
        raise MismatchError(
            f"{name} has {_digits(header.rate)} labels a second, not {_digits(rate)}: "
            f"set the label rate to {_digits(header.rate)}, or make labels at {_digits(rate)}"
        )
    if lengths is not None:
        _check_rows(name, len(survey.lengths), "the .len", len(lengths))
        differing = np.flatnonzero(lengths != survey.lengths)
        if len(differing):
            row = int(differing[0])
            raise MismatchError(
                f"{name} line {row + 1} has {survey.lengths[row]} labels, but the .len says {lengths[row]} frames: "
                "label the features again"
            )
    if manifest is not None:
        notes += _check_manifest(name, header, survey, manifest, header.rate or rate)
    if header.clusters is not None and survey.largest >= header.clusters:
        raise MismatchError(f"{name} holds the unit {survey.largest}, but was made with {header.clusters} clusters: label again")
    if dictionary is not None:
        require_clusters(dictionary, header.clusters, survey.largest)
    return notes


def _check_manifest(name: str, header: UnitsHeader, survey: Survey, manifest: Manifest, rate: float | None) -> list[str]:
    _check_rows(name, len(survey.lengths), "the manifest", len(manifest))
    lengths_known = bool((manifest.samples >= 0).all())  # they are part of the digest
    if lengths_known and header.manifest is not None and header.manifest != manifest.digest:
        raise MismatchError(
            f"{name} was made for another manifest, with as many rows: use the manifest that lies beside it, or label again"
        )
    expected = _expected_counts(header, rate, manifest.sample_rate)
    if not lengths_known:
        return [f"the manifest doesn't give all lengths, so {name} was compared with it by rows alone"]
    if expected is None:
        return [f"{name} doesn't say its rate, so its lengths were not compared with the audio: give --rate"]
    counts = np.array([expected(int(samples)) for samples in manifest.samples], dtype=np.int64)
    off = np.flatnonzero(np.abs(counts - survey.lengths) > _TOLERANCE)
    if len(off):
        row = int(off[0])
        want = expected(int(manifest.samples[row]))
        raise MismatchError(
            f"{name} line {row + 1} has {survey.lengths[row]} labels, but {manifest.ids[row]!r} should have {want} "
            f"({len(off)} lines are off by more than {_TOLERANCE}): the labels are of other audio, or of another rate"
        )
    return []


def _expected_counts(header: UnitsHeader, rate: float | None, sample_rate: int) -> Callable[[int], int] | None:
    """Return samples at `sample_rate` → frames, from the frames' spec or from a usual rate."""
    if header.features:
        spec = FeatureSpec.from_json({**header.features, "recorded": {}})
    elif rate in _USUAL_FRAMES:
        window, hop = _USUAL_FRAMES[rate]
        spec = FeatureSpec(kind="", dim=1, hop=hop, receptive_field=window)
    else:
        return None
    return lambda samples: spec.frame_count(resampled_length(samples, sample_rate, spec.sample_rate))


def _digits(rate: float) -> str:
    """Return a rate with all digits that tell it from others."""
    return repr(float(rate)).removesuffix(".0")


def _check_rows(name: str, labels: int, other: str, rows: int) -> None:
    if labels != rows:
        raise MismatchError(
            f"{name} has {labels} lines, but {other} has {rows} rows: "
            "one must have a line for each row of the other; label again, or merge all shards"
        )

"""`vocable evaluate units|agreement`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.manifest_files import read_manifest
from vocable.cli.tables import bars, print_table
from vocable.errors import InputError
from vocable.evaluation.agreement import agreement as compare
from vocable.evaluation.unit_quality import SILENCES, phone_scores
from vocable.timelines.alignments import Alignments
from vocable.units.label_files import read_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, Units
from vocable.units.usage import usage_scores


def units(
    labels: Path,
    /,
    *,
    manifest: Path | None = None,
    alignments: Path | None = None,
    tier: str | None = None,
    rate: float | None = None,
    window: float = 0.025,
    silence: tuple[str, ...] = (),
    json_: bool = False,
) -> None:
    """Say how units are used, and with alignments what they tell of phones.

    Frame i stands at the centre of its analysis window; stress digits of phones are stripped.

    Parameters
    ----------
    labels
        A label file: .km, .units or .rle.
    manifest
        Whose rows the labels are; without it, the manifest of the same name beside them.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels ("id<TAB>label,label,…").
    tier
        Tier of the TextGrids, or column of the tables; by default phones, or the third column.
    rate
        Units per second, where the labels don't say; also that of per-frame labels.
    window
        Seconds of an analysis window, where the labels don't say.
    silence
        More labels that stand for silence.
    json_
        Print JSON.
    """
    found = read_units(labels)
    rate = found.header.rate or rate
    survey = Survey.of(found, found.header.clusters)
    result: dict[str, Any] = {"usage": usage_scores(survey, found.header.clusters, rate).rows()}
    if alignments is not None:
        if rate is None:
            raise InputError(
                f"{labels} doesn't say how many units a second has: give --rate, 100 for MFCC, 50 for layers of HuBERT"
            )
        centre = _first_centre(found, window)
        truth = Alignments(alignments, tier, rate, centre)
        silences = SILENCES | {item.lower() for item in silence}
        result["phones"] = phone_scores(found, _ids(labels, found, manifest, survey), truth, rate, centre, silences).rows()
    if json_:
        result |= {"histogram": survey.histogram.tolist(), "run_lengths": survey.durations.tolist()}
        print(json.dumps(result, indent=2))
        return
    print_table(f"{labels}: how units are used", result["usage"])
    print(f"frames of each unit, most first   {bars(sorted(survey.histogram.tolist(), reverse=True))}")
    print(f"runs of 1, 2, 3 … frames          {bars(survey.durations.tolist()[1:41])}")
    if "phones" in result:
        print_table("what they tell of phones", result["phones"])


def agreement(first: Path, second: Path, /, *, json_: bool = False) -> None:
    """Compare two labellings of the same frames, as when moving from another tool.

    Parameters
    ----------
    first
        A label file: .km, .units or .rle.
    second
        Another one, of the same utterances.
    json_
        Print JSON.
    """
    result = compare(read_units(first), read_units(second)).rows()
    if json_:
        print(json.dumps(result, indent=2))
    else:
        print_table(f"{first} and {second}", result)


def _ids(labels: Path, found: Units, manifest: Path | None, survey: Survey) -> tuple[str, ...]:
    if found.ids is not None:
        return found.ids
    beside = manifest or labels.with_suffix(".tsv")
    if not beside.exists():
        raise InputError(f"{labels} doesn't hold utterance ids: give --manifest")
    rows = read_manifest(beside)
    check_labels(labels.name, found.header, survey, rows)
    return rows.ids


def _first_centre(found: Units, window: float) -> float:
    """Return the time of the first frame's centre in seconds."""
    if not found.header.features:
        return window / 2
    return FeatureSpec.from_json({**found.header.features, "recorded": {}}).frame_time(0)

"""`vocable evaluate boundaries|syllables|ssabx`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from vocable.cli.tables import print_table
from vocable.execution.engine import check_device
from vocable.features.encoder_layer import EncoderFile


def boundaries(
    segments: Path,
    references: Path,
    /,
    *,
    tune: Path | None = None,
    tune_segments: Path | None = None,
    shift: float = 0.0,
    tolerance: float = 0.05,
    tier: str | None = None,
    json_: bool = False,
) -> None:
    """Say how well the starts of segments find the boundaries of syllables: precision, recall, F1, R-value.

    Parameters
    ----------
    segments
        A folder that 'vocable syllables segment' wrote, or SD-HuBERT's code.
    references
        A folder that 'vocable syllables reference' wrote, other .tsv or .TextGrid files of syllables, or a JSON file in the form
        of SD-HuBERT's authors.
    tune
        Syllables of other utterances: references are moved by what is best there, from -50 to 45 ms.
    tune_segments
        Their segments, where they are in another folder.
    shift
        Seconds by which references are moved, without --tune.
    tolerance
        Seconds by which a boundary may be off.
    tier
        Of TextGrids, or column of tables; by default syllables or syllable where there is one.
    json_
        Print JSON.
    """
    from vocable.errors import InputError
    from vocable.recipes.stored_segments import StoredSegments
    from vocable.recipes.syllable_references import read_references
    from vocable.recipes.syllable_scoring import score_boundaries

    if tune is None and tune_segments is not None:
        raise InputError("--tune-segments goes with --tune: give both, or none")
    if tune is not None and shift:
        raise InputError("--shift and --tune: the shift is looked for; give one of them")
    others = None if tune_segments is None else StoredSegments(tune_segments)
    tuning = [] if tune is None else read_references(tune, tier)
    found = score_boundaries(StoredSegments(segments), read_references(references, tier), tuning, shift, tolerance, others)
    _show(f"{segments}: boundaries", found.rows(), json_)
    if found.missing and not json_:
        print(f"no segments of {len(found.missing):,} references, such as {found.missing[0]}")


def syllables(
    segments: Path,
    references: Path,
    /,
    *,
    codebook: Path,
    reducer: Path | None = None,
    level: Literal["coarse", "fine"] = "coarse",
    tier: str | None = None,
    json_: bool = False,
) -> None:
    """Say what units of segments tell of syllables: purities and mutual information, each segment taken for the best syllable.

    Parameters
    ----------
    segments
        A folder that 'vocable syllables segment' wrote, or SD-HuBERT's code.
    references
        A folder that 'vocable syllables reference' wrote, other .tsv or .TextGrid files of syllables, or a JSON file in the form
        of SD-HuBERT's authors.
    codebook
        Made by 'vocable syllables cluster'; or a k-means of SD-HuBERT's code.
    reducer
        The .npy of groups that goes with a k-means of SD-HuBERT's code.
    level
        coarse: the groups; fine: the clusters.
    tier
        Of TextGrids, or column of tables; by default syllables or syllable where there is one.
    json_
        Print JSON.
    """
    from vocable.clustering.codebook import read_codebook
    from vocable.recipes.stored_segments import StoredSegments
    from vocable.recipes.syllable_clusters import with_groups
    from vocable.recipes.syllable_references import read_references
    from vocable.recipes.syllable_scoring import missing_from, score_syllables

    book = with_groups(read_codebook(codebook), reducer)
    stored, wanted = StoredSegments(segments), read_references(references, tier)
    missing = missing_from(stored, wanted)
    found = score_syllables(stored, wanted, book, level)
    _show(f"{segments}: units of {codebook}", {**found.rows(), "without segments": len(missing)}, json_)


def ssabx(
    encoder: str,
    triplets: Path,
    root: Path,
    /,
    *,
    layer: int | Literal["final"] = 9,
    mode: Literal["favg", "agg"] = "favg",
    device: str = "cpu",
    json_: bool = False,
) -> None:
    """Say how often an encoder describes a clip more like another speaker's of the same words than like other words.

    Parameters
    ----------
    encoder
        A checkpoint of SD-HuBERT or any other encoder: a file, a folder, or a name on the Hub.
    triplets
        A file such as SD-HuBERT's ssabx.json, or one that 'vocable syllables triplets' wrote.
    root
        Folder that the audio files named in it are in.
    layer
        Of the encoder, from 1; final, with agg, is what the head makes of the last layer's aggregator.
    mode
        favg: clips are described by the mean of their frames; agg: by their aggregator.
    device
        cpu, cuda, cuda:1 or mps.
    json_
        Print JSON.
    """
    from vocable.recipes.sentence_abx import Description, score_ssabx

    found = score_ssabx(EncoderFile(encoder), triplets, root, Description(layer=layer, mode=mode), check_device(device))
    _show(f"{encoder}: sentence ABX", found.rows(), json_)


def _show(title: str, rows: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(dict(rows), indent=2))
    else:
        print_table(title, rows)

"""Frames that were dumped, as a training takes them: by utterance, with who speaks and the rows they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocable.anonymization.detokenizer_data import FrameSource
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import digest_of
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import with_speakers
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.recipes.dumped import joined_rows, origin_of, stores_in


@dataclass(frozen=True)
class DumpedFrames:
    """The utterances of a folder of frames."""

    source: FrameSource
    specs: list[FeatureSpec]
    """What frames they are, as far as files beside them say it."""
    rows: Manifest | None
    """What they are of, if that is known."""


def dumped_frames(folder: Path, speakers: str | None, rate: float | None = None) -> DumpedFrames:
    """Return frames that were dumped.

    Args:
        folder: as `vocable features` leaves it.
        speakers: who speaks, where the rows don't say it.
        rate: frames per second, where nothing beside the frames says it.

    Raises:
        InputError: there are none.
        MismatchError: the rows beside them were changed since.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of frames: make them with 'vocable features CHECKPOINT AUDIO --out {folder}'")
    _, stores = stores_in(folder, None)
    if not stores:
        raise InputError(f"{folder} holds no frames: make them with 'vocable features CHECKPOINT AUDIO --out {folder}'")
    origins = [origin_of(store.path) for store in stores]
    specs = [origin.spec for origin in origins if origin.spec is not None]
    rows = joined_rows(stores, origins)
    lengths = np.concatenate([store.lengths for store in stores]).astype(np.int64)
    spoken: list[str | None] = [None] * len(lengths)
    names: tuple[str, ...] = tuple(map(str, range(len(lengths))))
    if rows is not None:
        rows = rows if speakers is None else with_speakers(rows, speakers)
        names, spoken = rows.ids, [item.speaker for item in rows]
    edges = [0, *np.cumsum([len(store) for store in stores]).tolist()]

    def frames(row: int) -> Frames:
        at = int(np.searchsorted(edges, row, side="right")) - 1
        found: Frames = np.asarray(stores[at][row - edges[at]], np.float32)
        return found

    rate = rate or (specs[0].rate if specs else 50.0)
    source = FrameSource(names, spoken, lengths, rate, frames, digest_of([store.content for store in stores]))
    return DumpedFrames(source, specs, rows)

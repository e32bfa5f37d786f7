"""Sentence ABX of an encoder, and triplets for it out of any corpus whose words are aligned."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.faults import AudioFault
from vocable.audio.manifest import Manifest
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.tensor_names import DISTILLATION
from vocable.errors import InputError
from vocable.evaluation.ssabx import Clip, SsabxScores, Triplet, read_triplets, score_triplets
from vocable.evaluation.ssabx_triplets import Spoken, TripletSettings, made_triplets
from vocable.evaluation.unit_quality import SILENCES
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.encoder_layer import EncoderFile, EncoderLayer
from vocable.features.encoder_runner import float32_products, normalized_waveform
from vocable.models.inference import prepared
from vocable.models.taps import Tap
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_usable
from vocable.syllables.distillation import DistillationSettings, SentenceHead
from vocable.timelines.alignments import Alignments
from vocable.timelines.timeline import Timeline

Vectors = list[NDArray[np.float32]]
_CLIPS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Description:
    """What describes a clip.

    Raises:
        InputError: the parts don't go together.
    """

    layer: int | Literal["final"] = 9
    """Of the encoder. `final`, of an aggregator, is what the head of SD-HuBERT makes of the last layer's."""
    mode: Literal["favg", "agg"] = "favg"
    """`favg`: the mean of its frames; `agg`: its aggregator."""

    def __post_init__(self) -> None:
        if self.layer == "final" and self.mode == "favg":
            raise InputError("--layer final goes with --mode agg: frames are of a layer")
        if self.mode not in ("favg", "agg"):
            raise InputError(f"--mode {self.mode}: give favg or agg")


def score_ssabx(encoder: EncoderFile, triplets: Path, root: Path, how: Description, device: str = "cpu") -> SsabxScores:
    """Score an encoder by triplets; each clip goes through it once.

    Args:
        encoder: describes clips.
        triplets: a file of them.
        root: folder that the files named in it are in.
        how: clips are described.
        device: a torch device.

    Raises:
        InputError: a file isn't there, or the encoder has no aggregator, head or layer as asked for.
    """
    found = read_triplets(triplets)
    checkpoint = encoder.checkpoint()
    describe = _by_frames(checkpoint, how, device) if how.mode == "favg" else _by_aggregator(checkpoint, how, device)
    rate = checkpoint.config.sample_rate

    def vectors(clips: list[Clip]) -> Iterator[NDArray[np.float32]]:
        with progress("clips", float(len(clips)), "clips") as shown:
            for first in range(0, len(clips), _CLIPS_AT_ONCE):
                batch = clips[first : first + _CLIPS_AT_ONCE]
                yield from describe([_samples(root, clip, rate, checkpoint.config.receptive_field) for clip in batch])
                shown.advance(len(batch))

    return score_triplets(found, vectors)


def make_triplets(manifest: Manifest, alignments: Path, tier: str, settings: TripletSettings) -> tuple[list[Triplet], int]:
    """Return triplets of a corpus, and of how many utterances they were made.

    Args:
        manifest: of the corpus, with speakers.
        alignments: words, or phones with their words: a folder of UTTERANCE.tsv or .TextGrid.
        tier: of the words.
        settings: which triplets.

    Raises:
        InputError: nobody says who speaks, no utterance is aligned, or no words are said twice.
    """
    if manifest.speakers is None:
        raise InputError("triplets need speakers: give --speakers with a pattern such as '{speaker}/*/*', or a table")
    found, usual = Alignments(alignments, tier), Alignments(alignments)
    spoken = []
    for row in range(len(manifest)):
        timeline = found.find(manifest.ids[row])
        if timeline is not None:
            words, times = _words(timeline, _is_of_phones(timeline, usual.find(manifest.ids[row])))
            spoken.append(Spoken(manifest.paths[row], manifest.speakers[row] or "", words, times))
    if not spoken:
        raise InputError(f"no utterance has its words in {alignments}: give their alignments")
    return made_triplets(spoken, settings), len(spoken)


def manifest_of(source: Path, corpus: CorpusSettings) -> Manifest:
    """Return the audio of a folder or manifest.

    Raises:
        InputError: there is none.
    """
    with tempfile.TemporaryDirectory() as folder, Engine(Work()) as engine:
        opened = open_corpus(source, corpus, engine, Path(folder))
        require_usable(opened, source)
        return opened.manifest


def _is_of_phones(words: Timeline, usual: Timeline | None) -> bool:
    """Tell whether words are said phone by phone: in as many intervals as there are phones, by other names."""
    return usual is not None and np.array_equal(words.starts, usual.starts) and words.labels != usual.labels


def _words(timeline: Timeline, of_phones: bool) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Return words with their times; where they are said phone by phone, the same that follow one another are one."""
    words: list[str] = []
    times: list[tuple[float, float]] = []
    open_ = False
    for start, end, label in zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True):
        if label.lower() in SILENCES:
            open_ = False
        elif of_phones and open_ and words[-1] == label.lower():
            times[-1] = (times[-1][0], end)
        else:
            words.append(label.lower())
            times.append((start, end))
            open_ = True
    return tuple(words), tuple(times)


@lru_cache(maxsize=1)
def _decoded(path: Path, rate: int) -> Waveform:
    """Return a file's waveform; clips of one file follow one another."""
    return read_waveform(path, rate)


def _samples(root: Path, clip: Clip, rate: int, least: int) -> Waveform:
    path = root / clip.file
    try:
        waveform = _decoded(path, rate)
    except AudioFault as fault:
        raise InputError(f"{path} can't be used ({fault}): give the folder that the triplets' files are in") from fault
    part = waveform[math.floor(clip.start * rate) : math.ceil(clip.end * rate)]
    if len(part) < least:
        raise InputError(f"{path} has {len(part)} samples from {clip.start} to {clip.end} s, and a frame takes {least}")
    return part


def _by_frames(checkpoint: EncoderCheckpoint, how: Description, device: str) -> Callable[[Sequence[Waveform]], Vectors]:
    assert how.layer != "final"
    layer = EncoderLayer(checkpoint, how.layer, device=device)
    return lambda waveforms: [frames.mean(axis=0) for frames in layer(waveforms)]


def _by_aggregator(checkpoint: EncoderCheckpoint, how: Description, device: str) -> Callable[[Sequence[Waveform]], Vectors]:
    config = checkpoint.config
    if not config.aggregator or not config.convolutions:
        raise InputError(f"{checkpoint.path} has no aggregator, so it is no SD-HuBERT: give one, or --mode favg")
    layer = config.layers if how.layer == "final" else how.layer
    Tap(layer).check(config.layers)
    head = _head(checkpoint) if how.layer == "final" else None
    place = torch.device(device)
    encoder = prepared(checkpoint.build(layer), "float32", place)
    stack = encoder.convolutions
    assert stack is not None

    def describe(waveforms: Sequence[Waveform]) -> Vectors:
        with torch.inference_mode(), float32_products(place):
            frames = [stack(torch.from_numpy(normalized_waveform(item, config)).to(place)) for item in waveforms]
            found = encoder.sentences(frames, [layer])[layer].float().cpu()
            return list((found if head is None else head.projection(found)).numpy())

    return describe


def _head(checkpoint: EncoderCheckpoint) -> SentenceHead:
    names = [name for name in checkpoint.heads if name.startswith(f"{DISTILLATION}.")]
    prototypes = f"{DISTILLATION}.prototypes.weight"
    if prototypes not in names:
        raise InputError(f"{checkpoint.path} has no head of its distillation: give --layer with a number")
    size, hidden = checkpoint.heads[prototypes].shape
    head = SentenceHead(checkpoint.config.dim, DistillationSettings(prototypes=size, hidden=hidden))
    state = {name.removeprefix(f"{DISTILLATION}."): checkpoint.heads[name] for name in names}
    state.pop("center", None)
    head.load_state_dict(state)
    return head.eval()

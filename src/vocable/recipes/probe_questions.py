"""What probes are asked: phones, pitch and who speaks; with what each is fitted to, and scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.manifest import Manifest
from vocable.errors import InputError
from vocable.evaluation.probes import Labelled, ProbeScore, check_labels, linear_score, unit_score
from vocable.evaluation.unit_quality import without_stress
from vocable.features.pitch import CEILING, FLOOR, is_installed
from vocable.recipes.probe_draw import Drawn, DrawnUtterance
from vocable.recipes.probe_settings import ProbeSettings
from vocable.recipes.probe_sides import Sides, speaker_sides, speakers_in, utterance_sides
from vocable.timelines.alignments import Alignments
from vocable.units.pitch_labels import PitchBins

_ALIGNMENTS, _SPEAKERS, _PITCH = "give --alignments", "give --speakers", "pip install 'vocable[pitch]'"


@dataclass(frozen=True)
class Question:
    """What is asked of each layer."""

    name: str
    values: Callable[[int], NDArray[Any]]
    """Of a layer: those of all items."""
    labels: NDArray[np.str_]
    utterances: NDArray[np.int64]
    """Which each item is of."""
    fitted: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    scored_on: str

    def check(self) -> None:
        """Refuse what no layer could answer.

        Raises:
            InputError: there is nothing to score, or there are fewer than two labels to fit.
        """
        check_labels(self.labels[self.fitted].tolist(), self.labels[self.scored].tolist())

    def score(self, layer: int, seed: int) -> ProbeScore:
        """Return how much a fresh probe gets right.

        Args:
            layer: its place among those that were drawn.
            seed: of the probe.
        """
        values = self.values(layer)
        fitted, scored = (
            Labelled(values[own], self.labels[own].tolist(), self.utterances[own]) for own in (self.fitted, self.scored)
        )
        return unit_score(fitted, scored) if values.ndim == 1 else linear_score(fitted, scored, seed)


_Made = tuple[list[Question], tuple[str, ...]]
"""Questions, and what is to be said of them."""


@dataclass(frozen=True)
class Questions:
    """All that can be asked, and why the rest can't."""

    asked: tuple[Question, ...]
    notes: tuple[str, ...]

    @property
    def speakers_scored_on(self) -> str:
        """Other chapters, other utterances, the other audio, or nothing."""
        return next((question.scored_on for question in self.asked if question.name.startswith("speaker")), "nothing")


def require_something(heard: Sequence[Manifest], aligned: bool) -> None:
    """Refuse, before its frames are made, audio of which nothing could be asked.

    Raises:
        InputError: says what to give.
    """
    if not aligned and not is_installed() and len(speakers_in(heard[0])) < 2:
        raise InputError(f"nothing to ask: for phones {_ALIGNMENTS}, for who speaks {_SPEAKERS}, for pitch {_PITCH}")


def questions_of(drawn: Sequence[Drawn], spec: FeatureSpec, alignments: Alignments | None, settings: ProbeSettings) -> Questions:
    """Return what can be asked.

    Args:
        drawn: of one corpus, or of two, of which the second is scored.
        spec: of the frames.
        alignments: of phones; without, phones aren't asked for.
        settings: which part is held out, and how many bins pitch has.

    Raises:
        InputError: nothing can be asked.
    """
    items = _Items(drawn, settings)
    asked: list[Question] = []
    notes: list[str] = []
    kinds: dict[str, Callable[[], _Made]] = {
        "phones were": lambda: items.phones(spec, alignments),
        "pitch was": items.pitch,
        "speakers were": items.speakers,
    }
    for what, makes in kinds.items():
        try:
            made, said = makes()
            for question in made:
                question.check()
        except InputError as error:
            notes.append(f"{what} not asked for: {error}")
        else:
            asked += made
            notes += said
    if not asked:
        raise InputError(f"nothing to ask: {'; '.join(notes)}")
    return Questions(tuple(asked), tuple(notes))


@dataclass(frozen=True)
class _Items:
    """All frames that were drawn, one utterance after another."""

    drawn: Sequence[Drawn]
    settings: ProbeSettings

    def phones(self, spec: FeatureSpec, alignments: Alignments | None) -> _Made:
        """Return the question about phones.

        Raises:
            InputError: there are none.
        """
        if alignments is None:
            raise InputError(_ALIGNMENTS)
        phones: list[str | None] = []
        for name, item in zip((name for manifest in self._heard for name in manifest.ids), self._every, strict=True):
            timeline = alignments.find(name)
            phones += [None] * len(item.places) if timeline is None else timeline.labels_at(spec.frame_times(item.places))
        known = np.array([phone is not None for phone in phones], dtype=bool)
        if not known.any():
            raise InputError(f"no utterance has an alignment in {alignments.path}: their names must be the utterances' ids")
        sides = self._sides(known)
        return [self._of_frames("phone", [without_stress(phone or "") for phone in phones], known, sides)], ()

    def pitch(self) -> _Made:
        """Return the question about pitch, in bins that hold equally many of the voiced frames that the probe is fitted to.

        Raises:
            InputError: it isn't known, or too little is voiced.
        """
        pitch = np.concatenate([item.pitch for item in self._every])
        if len(pitch) and np.isnan(pitch).all():
            raise InputError(_PITCH)
        voiced = pitch > 0
        if not voiced.any():
            raise InputError("no frame is voiced")
        sides = self._sides(voiced)
        fitted = voiced & sides.fitted[self._owners]
        for own, use in ((sides.fitted, "fitted to"), (sides.scored, "scored on")):
            if not own.any():
                raise InputError(f"no frame that its probe would be {use} is voiced")
        try:
            cut = PitchBins.quantile(self.settings.bins, "none", FLOOR, CEILING, [pitch[fitted]])
        except InputError as error:
            raise InputError(
                f"{fitted.sum()} voiced frames don't make {self.settings.bins} bins of equally many: give fewer --bins"
            ) from error
        return [self._of_frames("pitch", [str(at) for at in cut(pitch).tolist()], voiced, sides)], ()

    def speakers(self) -> _Made:
        """Return the questions about who speaks: of frames, and of whole utterances.

        Raises:
            InputError: there are too few speakers, or too little is known of them.
        """
        sides = speaker_sides(self._heard, self.settings)
        names = [name or "" for manifest in self._heard for name in manifest.speakers or [None] * len(manifest)]
        every = np.ones(len(self._owners), dtype=bool)
        of_frames = self._of_frames("speaker", [names[owner] for owner in self._owners.tolist()], every, sides)
        numbers = np.arange(len(names))
        kinds = ("speaker, histogram", "speaker, runs") if len(self._every[0].whole) > 1 else ("speaker, pooled",)
        whole = (
            Question(kind, self._pooled(at), np.array(names), numbers, sides.fitted, sides.scored, sides.scored_on)
            for at, kind in enumerate(kinds)
        )
        return [of_frames, *whole], sides.notes

    def _of_frames(self, name: str, labels: list[str], known: NDArray[np.bool_], sides: Sides) -> Question:
        fitted, scored = (known & own[self._owners] for own in (sides.fitted, sides.scored))
        return Question(name, self._frames, np.array(labels), self._owners, fitted, scored, sides.scored_on)

    def _sides(self, known: NDArray[np.bool_]) -> Sides:
        """Return the sides of utterances of which some frames are known."""
        usable = np.zeros(len(self._every), dtype=bool)
        usable[self._owners[known]] = True
        return utterance_sides(self._heard, usable, self.settings)

    @cached_property
    def _every(self) -> list[DrawnUtterance]:
        return [item for part in self.drawn for item in part.utterances]

    @cached_property
    def _heard(self) -> list[Manifest]:
        return [part.manifest for part in self.drawn]

    @cached_property
    def _owners(self) -> NDArray[np.int64]:
        """The utterance of each frame."""
        return np.repeat(np.arange(len(self._every)), [len(item.places) for item in self._every])

    def _frames(self, layer: int) -> NDArray[Any]:
        return np.concatenate([item.frames if item.frames.ndim == 1 else item.frames[:, layer] for item in self._every])

    def _pooled(self, kind: int) -> Callable[[int], NDArray[np.float32]]:
        return lambda layer: np.stack([item.whole[kind][layer] for item in self._every])

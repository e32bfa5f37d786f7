"""What units tell of phones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError, MismatchError
from vocable.evaluation.joint_counts import JointCounts
from vocable.timelines.alignments import Alignments
from vocable.timelines.timeline import Timeline
from vocable.units.units import Units

SILENCES = frozenset({"", "sil", "sp", "spn", "nsn", "pau", "h#", "<sil>", "<eps>", "<unk>", "silence"})
"""Labels that stand for no phone, in lower case."""

# In upper case only: "ao1" is a tone in sets of Mandarin, and digits after anything else tell phones apart.
_STRESSED = re.compile(r"(AA|AE|AH|AO|AW|AX|AXR|AY|EH|ER|EY|IH|IX|IY|OW|OY|UH|UW|UX)[012]")

# An alignment may be a few windows longer or shorter than the units; the nearest rates in use are further apart than a tenth.
_SPARE_SECONDS, _SPARE_PART = 0.1, 0.1
_SPARE_END = 1.0  # seconds that intervals may go on after the units


@dataclass(frozen=True)
class PhoneScores:
    """How well units tell phones apart."""

    phone_purity: float
    cluster_purity: float
    pnmi: float
    pnmi_without_silence: float
    frames: int
    """That were scored."""
    frames_outside: int
    """Of scored utterances, but outside all intervals."""
    utterances: int
    phones: int

    def rows(self) -> dict[str, float | int]:
        """Return name → value."""
        return asdict(self)


def phone_scores(
    units: Units,
    ids: Iterable[str],
    alignments: Alignments,
    rate: float,
    times: Callable[[int], NDArray[np.float64]],
    silences: frozenset[str] = SILENCES,
) -> PhoneScores:
    """Score units against phone alignments; frame i stands at the centre of its analysis window.

    Stress digits of ARPAbet vowels are stripped, frames outside all intervals and utterances without an alignment are left out.

    Args:
        units: labels of utterances.
        ids: of the utterances, in the same order.
        alignments: phones.
        rate: units per second.
        times: returns the centres of an utterance's first so many frames, in seconds.
        silences: labels, in lower case, that are no phones.

    Raises:
        InputError: no utterance has an alignment, no frame lies in an interval, two utterances have the same alignment, or
            several could be meant.
        MismatchError: per-frame labels are of another rate than `alignments` says, or intervals end long after the audio.
    """
    owner: dict[str, str] = {}
    outside = 0

    def pairs() -> Iterator[tuple[list[str], NDArray[np.intp]]]:
        for utterance, values in zip(ids, units, strict=True):
            name, timeline = alignments.name_of(utterance), alignments.find(utterance)
            if name is None or timeline is None:
                continue
            require_own(name, utterance, owner, alignments)
            require_same_audio(utterance, len(values), rate, timeline, alignments)
            phones = timeline.labels_at(times(len(values)))
            inside = np.array([phone is not None for phone in phones], dtype=bool)
            nonlocal outside
            outside += int((~inside).sum())
            yield [without_stress(phone) for phone in phones if phone is not None], np.asarray(values, dtype=np.intp)[inside]

    largest = int(units.values.max(initial=0)) + 1
    counts = JointCounts.of(pairs(), max(units.header.clusters or 0, largest))
    if not owner:
        raise InputError(
            f"none of the {len(units)} utterances has an alignment in {alignments.path}: their names must be the utterances' ids"
        )
    if not counts.frames:
        raise InputError(
            f"{alignments.path} has no interval that a frame of the {len(owner)} utterances lies in: "
            "give alignments of this audio, with times in seconds"
        )
    spoken = counts.without(name for name in counts.labels if name.lower() in silences)
    return PhoneScores(
        phone_purity=counts.phone_purity(),
        cluster_purity=counts.cluster_purity(),
        pnmi=counts.pnmi(),
        pnmi_without_silence=spoken.pnmi(),
        frames=counts.frames,
        frames_outside=outside,
        utterances=len(owner),
        phones=len(spoken.labels),
    )


def require_own(name: str, utterance: str, owner: dict[str, str], alignments: Alignments) -> None:
    """Note whose alignment one is.

    Raises:
        InputError: another utterance's.
    """
    if name in owner:
        raise InputError(
            f"{alignments.path} has one alignment, {name}, for {owner[name]!r} and for {utterance!r}: "
            "name alignments by the utterances' whole ids"
        )
    owner[name] = utterance


def require_same_audio(utterance: str, units: int, rate: float, timeline: Timeline, alignments: Alignments) -> None:
    """Refuse an alignment that lasts clearly longer or shorter than the units of an utterance.

    Raises:
        MismatchError: says how long each is.
    """
    _require_equal_lengths(utterance, units, rate, alignments)
    _require_same_clock(utterance, units / rate, timeline, alignments)


def without_stress(phone: str) -> str:
    """Return an ARPAbet vowel without its stress digit, AH0 → AH, and anything else as it is."""
    return phone[:-1] if _STRESSED.fullmatch(phone) else phone


def _require_same_clock(utterance: str, heard: float, timeline: Timeline, alignments: Alignments) -> None:
    """Refuse intervals that go on long after the units end: times in samples or milliseconds, or of other audio."""
    last = float(timeline.ends.max(initial=0.0))
    if last > heard + max(_SPARE_END, _SPARE_PART * heard):
        raise MismatchError(
            f"{alignments.path} has intervals up to {last:.6g} s for {utterance!r}, whose units last {heard:.2f} s: "
            "times must be in seconds, and of the same audio"
        )


def _require_equal_lengths(utterance: str, units: int, rate: float, alignments: Alignments) -> None:
    """Refuse per-frame labels that last longer or shorter than the units: the phones would be those of another moment."""
    labels = alignments.frame_count(utterance)
    if not labels or not units:
        return
    lasting, heard = labels / alignments.rate, units / rate
    if abs(lasting - heard) > max(_SPARE_SECONDS, _SPARE_PART * heard):
        raise MismatchError(
            f"{alignments.path} has {labels} labels for {utterance!r}, {lasting:.2f} s at {alignments.rate:g} a second, "
            f"but its {units} units at {rate:g} a second last {heard:.2f} s: "
            f"give --alignment-rate, about {labels / heard:.3g}, or the alignment of this audio"
        )

"""The demo: a small corpus of made speech whose phones are known, prepared and scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from vocable.artefacts.writing import replacing, write_text
from vocable.audio.decoding import resample
from vocable.evaluation.unit_quality import PhoneScores, phone_scores
from vocable.execution.engine import Work
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.espeak import Espeak, Voice
from vocable.recipes.fitting import FitSettings
from vocable.recipes.label_preparation import Preparation, Prepared, prepare
from vocable.timelines.alignments import Alignments
from vocable.timelines.timeline import Timeline
from vocable.units.label_files import read_units
from vocable.units.units import Units

VOICES = {
    "ada": Voice("en-us+f1", rate=160, pitch=62, range=55),
    "bea": Voice("en-us+f1", rate=180, pitch=75, range=65),
    "cleo": Voice("en-us+f4", rate=150, pitch=55, range=45),
    "dora": Voice("en-us+f4", rate=172, pitch=68, range=50),
    "emil": Voice("en-us+m1", rate=165, pitch=40, range=50),
    "finn": Voice("en-us+m3", rate=180, pitch=34, range=60),
    "gus": Voice("en-us+m4", rate=145, pitch=45, range=40),
    "hugo": Voice("en-us+m7", rate=170, pitch=28, range=55),
}
"""Speakers of the demo corpus; variants that speak the same each time, which not all of espeak-ng's do."""

SENTENCES = (
    "The harbour was quiet when the last of the fishing boats came home.",
    "She measured the flour twice and still the bread refused to rise.",
    "A thin layer of frost covered every window on the northern side.",
    "Five young geologists argued over the age of the yellow stone.",
    "Nobody noticed that the clock in the hallway had stopped at noon.",
    "Please put the green bottles back on the shelf above the sink.",
    "Their cousin plays the violin in a small orchestra near the coast.",
    "We should have bought the larger umbrella before the storm began.",
    "The judge asked whether both of the witnesses could hear her voice.",
    "Old maps often show islands that no sailor ever managed to find.",
    "He chewed his pencil and thought about the shape of a question.",
    "Bright orange leaves drifted across the empty football pitch.",
    "The engineer poured cold water over the smoking machine.",
    "Every child in the valley knows how to whistle through the fingers.",
    "Those who choose the shorter road must cross the river on foot.",
    "My neighbour keeps three goats, a donkey, and a very proud goose.",
    "It is rather unusual to see such a crowd at the museum in March.",
    "The pilot pushed the throttle forward and the engines roared.",
    "With a sharp knife she cut the cheese into equal little cubes.",
    "Fourteen letters arrived this morning, but none of them was for you.",
    "A gentle breeze moved the curtain while the baby was asleep.",
    "He rubbed the coin until the face of the king became visible.",
    "Do you remember which of the two doors leads to the garden?",
    "The bus was full, so we walked along the beach for an hour.",
    "Zebras and giraffes gather at the water hole just before sunset.",
    "Their choice of vegetables surprised the cook from Geneva.",
    "The tower casts a long shadow over the market in the evening.",
    "Quick thinking saved the ship, though the cargo was lost.",
    "You could hear the ice crack beneath the weight of the sledge.",
    "The teacher drew a perfect circle with a single stroke of chalk.",
    "Anna borrowed a ladder to reach the cherries at the top.",
    "This soup needs pepper, thyme, and perhaps a spoon of vinegar.",
)
_EACH = 12  # sentences a voice


@dataclass(frozen=True)
class Demonstration:
    """What the demo came to."""

    prepared: Prepared
    scores: PhoneScores
    random: PhoneScores
    """Of units drawn at random for the same frames."""


def demonstrate(out: Path, clusters: int = 100, work: Work | None = None, overwrite: bool = False) -> Demonstration:
    """Make the corpus in `out/corpus`, its labels in `out/labels`, and score them against the known phones.

    Raises:
        InputError: espeak-ng isn't installed, or labels of other settings stand in `out` and `overwrite` isn't given.
    """
    settings = Preparation(
        corpus=CorpusSettings(speakers="{speaker}/*"), fit=FitSettings(clusters=clusters), valid_percent=0.1, by_speaker=True
    )
    make_corpus(out / "corpus", out / "alignments")
    prepared = prepare(out / "corpus", out / "labels", settings, work, overwrite)
    units = read_units(out / "labels" / "train.km")
    drawn = np.random.default_rng(0).integers(0, clusters, len(units.values))
    random = Units(drawn.astype(units.values.dtype), units.lengths, units.header)
    ids, alignments = prepared.splits["train"].ids, Alignments(out / "alignments")
    spec = prepared.codebook.spec
    assert spec is not None
    rate, times = spec.rate, spec.frame_times
    scores, chance = (
        phone_scores(item, ids, alignments, rate, lambda count: times(np.arange(count))) for item in (units, random)
    )
    return Demonstration(prepared, scores, chance)


def make_corpus(audio: Path, alignments: Path, sample_rate: int = 16000) -> None:
    """Write `VOICE/VOICE-NN.flac` and `VOICE/VOICE-NN.tsv` for each voice and its sentences; what is there is kept.

    Raises:
        InputError: espeak-ng isn't installed.
    """
    wanted = [(voice, number) for voice in VOICES for number in range(_EACH)]
    missing = {item for item in wanted if not all(path.exists() for path in _paths(audio, alignments, *item))}
    if not missing:
        return
    espeak = Espeak()
    # What espeak-ng says depends on what it has said: all is spoken in order, even if only some is missing.
    for voice, number in wanted:
        # Each voice begins elsewhere in the list, so that voices share some sentences and not others.
        text = SENTENCES[(list(VOICES).index(voice) * 5 + number) % len(SENTENCES)]
        samples, phones = espeak.speak(text, VOICES[voice])
        if (voice, number) not in missing:
            continue
        waveform = resample((samples / 32768.0).astype(np.float32), espeak.sample_rate, sample_rate)
        sound, table = _paths(audio, alignments, voice, number)
        write_text(table, _table(phones))
        with replacing(sound) as file:
            soundfile.write(file, waveform, sample_rate, format="FLAC", subtype="PCM_16")


def _paths(audio: Path, alignments: Path, voice: str, number: int) -> tuple[Path, Path]:
    name = f"{voice}/{voice}-{number:02d}"
    return audio / f"{name}.flac", alignments / f"{name}.tsv"


def _table(phones: Timeline) -> str:
    rows = zip(phones.starts.tolist(), phones.ends.tolist(), phones.labels, strict=True)
    return "start\tend\tphone\n" + "".join(f"{start:.5f}\t{end:.5f}\t{label}\n" for start, end, label in rows)

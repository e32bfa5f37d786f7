"""What probes are asked is what was said at those frames, of those layers, and none is fitted to what it is scored on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.features.extractors import Mfcc
from vocable.recipes.probe_draw import Drawn, DrawnUtterance, _at
from vocable.recipes.probe_questions import Question, questions_of
from vocable.recipes.probe_settings import ProbeSettings
from vocable.timelines.alignments import Alignments

SPEC = Mfcc().spec
UTTERANCES, FRAMES = 60, 30  # of four speakers in five chapters each


def drawn(
    units: bool = True, pitch: Callable[[int], np.ndarray] = lambda at: np.full(FRAMES, np.nan), count: int = UTTERANCES
) -> Drawn:
    """Utterances of a unit of their own, or of noise in two layers."""
    rng = np.random.default_rng(7)
    rows = [Utterance(f"{at % 4}-{at // 4 % 5}-{at}", f"{at}.wav", 16000, str(at % 4)) for at in range(count)]
    every = []
    for at in range(count):
        if units:
            frames = np.full(FRAMES, at)
            whole = tuple(rng.standard_normal((1, 3)).astype(np.float32) for _ in range(2))
        else:
            frames = rng.standard_normal((FRAMES, 2, 3)).astype(np.float32)
            whole = (rng.standard_normal((2, 6)).astype(np.float32),)
        places = np.sort(rng.permutation(98)[:FRAMES])
        every.append(DrawnUtterance(at, places, frames, whole, pitch(at).astype(np.float32)))
    return Drawn(Manifest.of(rows), every)


def phones(folder: Path, given: Drawn, seconds: float = 0.05) -> Alignments:
    """A phone of a or b for each 50 ms, in utterances that have a taste for one of them."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in given.manifest.ids:
        likely = rng.choice([0.3, 0.7])
        lines = [f"{at * seconds}\t{(at + 1) * seconds}\t{'ab'[int(rng.random() < likely)]}" for at in range(20)]
        (folder / f"{name}.tsv").write_text("\n".join(["start\tend\tphone", *lines]) + "\n")
    return Alignments(folder)


def asked(
    given: Drawn | list[Drawn], alignments: Alignments | None = None, spec: FeatureSpec = SPEC, **settings: object
) -> dict[str, Question]:
    parts = given if isinstance(given, list) else [given]
    found = questions_of(parts, spec, alignments, ProbeSettings(**settings))  # type: ignore[arg-type]
    return {question.name: question for question in found.asked}


def tasteful(at: int) -> np.ndarray:
    return np.full(FRAMES, [110.0, 220.0][np.random.default_rng(at).integers(2)]) + np.arange(FRAMES)


def test_no_probe_is_fitted_to_what_it_is_scored_on(tmp_path: Path) -> None:
    """A unit is met in one utterance alone: whoever was fitted to others can say nothing but the most frequent label."""
    given = drawn(pitch=tasteful)
    found = asked(given, phones(tmp_path / "phones", given), bins=2)
    assert set(found) == {"phone", "pitch", "speaker", "speaker, histogram", "speaker, runs"}
    for name in ("phone", "pitch", "speaker"):
        score = found[name].score(0, 0)
        assert score.accuracy == score.chance < 0.7
    for question in found.values():
        fitted, scored = (question.utterances[own] for own in (question.fitted, question.scored))
        assert len(fitted) > len(scored) > 0
        assert not set(fitted.tolist()) & set(scored.tolist())
        if question.name.startswith("speaker"):
            assert question.scored_on == "other chapters"
            chapters = [{given.manifest.ids[at].rpartition("-")[0] for at in own} for own in (fitted, scored)]
            assert not chapters[0] & chapters[1]


def test_layers_are_asked_with_their_own_values(tmp_path: Path) -> None:
    given = drawn(units=False)
    found = asked(given, phones(tmp_path / "phones", given))
    for at in range(2):
        frames = np.concatenate([item.frames[:, at] for item in given.utterances])
        pooled = np.stack([item.whole[0][at] for item in given.utterances])
        for name, expected in (("phone", frames), ("speaker", frames), ("speaker, pooled", pooled)):
            assert np.array_equal(found[name].values(at), expected)
    of_units = drawn()
    found = asked(of_units)
    for at, name in enumerate(("speaker, histogram", "speaker, runs")):
        assert np.array_equal(found[name].values(0), np.concatenate([item.whole[at] for item in of_units.utterances]))


@pytest.mark.parametrize("hop", [160, 320])
def test_phones_are_those_at_the_centres_of_frames(tmp_path: Path, hop: int) -> None:
    given = drawn()
    alignments = phones(tmp_path / "phones", given)
    spec = FeatureSpec(kind="mfcc", dim=39, hop=hop, receptive_field=400, sample_rate=16000)
    question = asked(given, alignments, spec)["phone"]
    expected = []
    for name, item in zip(given.manifest.ids, given.utterances, strict=True):
        said = [line.split("\t")[2] for line in (tmp_path / "phones" / f"{name}.tsv").read_text().splitlines()[1:]]
        samples = 200 + hop * item.places
        expected += [said[at // 800] if at < 16000 else "" for at in samples.tolist()]
    assert question.labels.tolist() == expected
    assert np.array_equal(question.fitted | question.scored, np.array(expected) != "")


def test_pitch_is_that_at_the_centres_of_frames() -> None:
    places = np.array([0, 1, 5, 17])
    for hop in (160, 320):
        spec = FeatureSpec(kind="mfcc", dim=39, hop=hop, receptive_field=400, sample_rate=16000)
        assert _at(np.arange(90, dtype=np.float32), spec.frame_times(places)).tolist() == (places * (hop // 160)).tolist()
    assert _at(np.arange(9, dtype=np.float32), SPEC.frame_times(np.array([30]))).tolist() == [8]
    assert _at(np.empty(0, np.float32), SPEC.frame_times(places)).tolist() == [0, 0, 0, 0]


def test_bins_of_pitch_are_cut_on_what_the_probe_is_fitted_to() -> None:
    low = drawn(pitch=lambda at: 100 + 2 * np.arange(FRAMES) + at / 100)
    high = drawn(pitch=lambda at: 400 + np.where(np.arange(FRAMES) < 20, 0.0, np.nan))
    question = asked([low, high], bins=2)["pitch"]
    half = UTTERANCES * FRAMES
    assert question.labels[:half].tolist() == [str(int(at >= FRAMES // 2)) for at in range(FRAMES)] * UTTERANCES
    assert set(question.labels[half:][question.scored[half:]]) == {"1"}
    assert question.scored.sum() == UTTERANCES * 20  # what isn't voiced takes no part
    assert not question.scored[:half].any()


def test_what_cannot_be_asked_is_told_and_the_rest_is_asked(tmp_path: Path) -> None:
    some, mute = drawn(pitch=tasteful), drawn(pitch=lambda at: np.zeros(FRAMES))
    alignments = phones(tmp_path / "phones", drawn(count=1))

    def notes(given: list[Drawn], about: str, **settings: object) -> str:
        found = questions_of(given, SPEC, alignments, ProbeSettings(**settings))  # type: ignore[arg-type]
        assert {"speaker", "speaker, runs"} <= {question.name for question in found.asked}
        (said,) = [note.partition("not asked for: ")[2] for note in found.notes if note.startswith(about)]
        return said

    assert notes([mute], "phones were").startswith("a probe needs utterances to be fitted to and others")
    assert notes([mute], "pitch was") == "no frame is voiced"
    assert notes([some, mute], "pitch was") == "no frame that its probe would be scored on is voiced"
    assert notes([mute, some], "pitch was") == "no frame that its probe would be fitted to is voiced"
    few = notes([drawn(pitch=lambda at: np.full(FRAMES, 100.0 + at % 3))], "pitch was", bins=9)
    assert few.endswith("voiced frames don't make 9 bins of equally many: give fewer --bins")
    assert notes([drawn()], "pitch was") == "pip install 'vocable[pitch]'"
    alone = Drawn(Manifest.of([Utterance("x", "x.wav", 16000)]), some.utterances[:1])
    with pytest.raises(
        InputError, match=r"nothing to ask: phones were .*give --alignments; pitch was .*; speakers were .*give --speakers"
    ):
        questions_of([alone], SPEC, None, ProbeSettings())
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "unheard.tsv").write_text("start\tend\tphone\n0\t1\ta\n")
    found = questions_of([some], SPEC, Alignments(tmp_path / "others"), ProbeSettings())
    assert "no utterance has an alignment" in found.notes[0]
    assert len(found.asked) == 4


def test_few_utterances_with_labels_are_on_both_sides(tmp_path: Path) -> None:
    """Whichever utterances a hash holds out, two of which something is known are enough."""
    given = drawn()
    for first in range(6):
        folder = tmp_path / str(first)
        phones(folder, Drawn(given.manifest.select([first, first + 1]), []))
        question = asked(given, Alignments(folder), held_out=0.01)["phone"]
        assert question.fitted.sum() == question.scored.sum() == FRAMES

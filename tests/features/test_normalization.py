from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import speech_like, write_audio
from vocable.audio.blocks import Block
from vocable.audio.manifest import Utterance
from vocable.errors import InputError
from vocable.features import Mfcc
from vocable.features.normalization import Normalization, Scope, Statistics, stack_context
from vocable.features.pipeline import FramePipeline

RNG = np.random.default_rng(0)
FRAMES = (5 + 3 * RNG.standard_normal((200, 4))).astype(np.float32)


def test_statistics_add_up_to_those_of_the_whole() -> None:
    parts = Statistics.of(FRAMES[:50]) + Statistics.of(FRAMES[50:])
    assert parts.count == 200
    assert np.allclose(parts.mean, FRAMES.mean(axis=0), atol=1e-6)
    assert np.allclose(parts.std, FRAMES.std(axis=0), atol=1e-6)


def test_normalised_utterances_have_mean_zero_and_deviation_one() -> None:
    out = Normalization("utterance")(FRAMES)
    assert np.allclose(out.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(out.std(axis=0), 1, atol=1e-5)
    assert out.dtype == np.float32


def test_a_value_that_never_changes_becomes_zero() -> None:
    assert np.array_equal(Normalization("utterance")(np.full((10, 2), 3, np.float32)), np.zeros((10, 2)))


def test_the_smallest_changes_count_and_rounding_does_not() -> None:
    ups_and_downs = np.tile(np.array([[1], [-1]], np.float32), (8, 2))
    small, rounding = np.float32(1e-6), np.float32(1e-12)
    assert np.allclose(Normalization("utterance")(ups_and_downs * small), ups_and_downs, rtol=1e-5)
    assert np.allclose(Normalization("utterance")(ups_and_downs * rounding), ups_and_downs * 1e-4, rtol=1e-5)


def test_known_speakers_have_their_own_statistics_and_others_their_utterance() -> None:
    normalize = Normalization("speaker", speakers={"ann": Statistics.of(FRAMES).moments})
    part = FRAMES[:20]
    assert np.array_equal(
        normalize(part, "ann"), (part - FRAMES.astype("f8").mean(axis=0).astype("f4")) / Statistics.of(FRAMES).std
    )
    assert np.array_equal(normalize(part, "bob"), Normalization("utterance")(part))
    assert np.array_equal(normalize(part, None), Normalization("utterance")(part))


@pytest.mark.parametrize("scope", ["speaker-mean", "utterance-mean"])
def test_the_mean_alone_is_what_an_obvious_reference_takes_out(scope: Scope) -> None:
    normalize = Normalization(scope, speakers={"ann": Statistics.of(FRAMES).moments} if scope == "speaker-mean" else {})
    part = FRAMES[:50]
    of_utterance = part - part.astype("f8").mean(axis=0).astype("f4")
    of_speaker = part - FRAMES.astype("f8").mean(axis=0).astype("f4")
    assert np.array_equal(normalize(part, "ann"), of_speaker if scope == "speaker-mean" else of_utterance)
    assert np.array_equal(normalize(part, "bob"), of_utterance)
    assert np.array_equal(normalize(part, None), of_utterance)
    assert np.allclose(normalize(part, "bob").std(axis=0), part.std(axis=0), rtol=1e-5)
    assert normalize.name == scope
    assert normalize.by_speaker == (scope == "speaker-mean")


def test_corpus_statistics_are_part_of_the_name() -> None:
    one, two = (Normalization("corpus", (FRAMES[at], np.ones(4, np.float32))) for at in (0, 1))
    assert one.name.startswith("corpus:")
    assert one.name != two.name
    assert np.array_equal(one(FRAMES), FRAMES - FRAMES[0])
    assert Normalization().name == "none"
    assert Normalization()(FRAMES) is FRAMES


def test_inconsistent_normalisation_is_refused() -> None:
    with pytest.raises(InputError, match="normalised per 'word'"):
        Normalization("word")  # type: ignore[arg-type]
    for arguments in (("corpus", None), ("utterance", (FRAMES[0], FRAMES[1]))):
        with pytest.raises(InputError, match="mean and standard deviation"):
            Normalization(*arguments)


def test_context_stacks_neighbours_in_order_of_time() -> None:
    frames = np.arange(4, dtype=np.float32)[:, None]
    assert stack_context(frames, 1).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert stack_context(frames, 0) is frames
    assert stack_context(frames[:0], 2).shape == (0, 5)


def block_of(folder: Path, *utterances: Utterance) -> Block:
    return Block(0, 7, str(folder), utterances, 16000)


def test_a_pipeline_names_what_it_leaves_out_and_keeps_rows_apart(tmp_path: Path) -> None:
    good = write_audio(tmp_path / "good.wav", 1.0, 1)
    block = block_of(
        tmp_path,
        Utterance("a", str(tmp_path / "gone.wav"), 16000),
        Utterance("b", str(good), 16000, "ann"),
        Utterance("c", str(good), 15999),
        Utterance("d", str(write_audio(tmp_path / "short.wav", 0.02, 1)), 320),
    )
    made = FramePipeline(Mfcc().spec, Normalization("utterance"), context=2).open("cpu")(block)
    assert made.rows == [1]
    assert made.frames[0].shape == (98, 195)
    assert [(row, item.reason) for row, item in made.skipped] == [(0, "vanished"), (2, "changed"), (3, "short")]
    expected = stack_context(Normalization("utterance")(Mfcc()([speech_like(1.0, 1)])[0]), 2)
    assert np.abs(made.frames[0] - expected).max() < 0.05  # 16-bit samples


def test_a_lenient_pipeline_takes_what_fairseq_takes(tmp_path: Path) -> None:
    block = block_of(
        tmp_path,
        Utterance("c", str(write_audio(tmp_path / "good.wav", 1.0, 1)), 15999),
        Utterance("d", str(write_audio(tmp_path / "short.wav", 0.02, 1)), 320),
    )
    made = FramePipeline(Mfcc().spec, lenient=True).open("cpu")(block)
    assert made.rows == [0, 1]
    assert [len(frames) for frames in made.frames] == [98, 0]


def test_a_pipelines_spec_says_everything() -> None:
    spec = FramePipeline(Mfcc().spec, Normalization("speaker"), context=4).spec
    assert (spec.dim, spec.context, spec.frame_normalization) == (351, 4, "speaker")
    with pytest.raises(InputError, match="--context -1"):
        FramePipeline(Mfcc().spec, context=-1)

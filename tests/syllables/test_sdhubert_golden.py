"""SD-HuBERT at its full size beside what its authors' code made of the same weights: network, segments, training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from syllables.references import golden_weights
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.tensor_names import DISTILLATION, MASK_EMBEDDING
from vocable.features.encoder_layer import EncoderLayer
from vocable.models.inference import prepared
from vocable.models.taps import Tap
from vocable.syllables.distillation import DistillationSettings, SentenceBatch, SentenceDistillation
from vocable.syllables.overlap_add import Joined
from vocable.syllables.perturbation import Perturbed, stretched, time_mask
from vocable.syllables.segmenter import Segmenter
from vocable.syllables.settings import PRESETS

pytestmark = pytest.mark.slow  # a network of 95 million values


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "sdhubert"


@pytest.fixture(scope="module")
def official(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "sdhubert_base.pt"
    torch.save({"config": {"speech_upstream": "facebook/hubert-base-ls960"}, "state_dict": golden_weights(golden)}, path)
    return path


@pytest.fixture(scope="module")
def found(official: Path) -> EncoderCheckpoint:
    return read_encoder(official)


@pytest.fixture(scope="module")
def clips(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    samples, rate = soundfile.read(golden / "sample.flac", dtype="int16")
    paths = folder / "a.wav", folder / "b.wav"
    for path, part in zip(paths, (slice(0, 48000), slice(48000, 71456)), strict=True):
        soundfile.write(path, samples[part], rate)
    return paths


def test_frames_and_aggregators_are_those_of_the_authors_code(golden: Path, found: EncoderCheckpoint) -> None:
    assert found.layout == "sdhubert"
    assert found.ignored == ()
    expected = np.load(golden / "model_forward_1s.npz")
    encoder = prepared(found.build(), "float32", torch.device("cpu"))
    assert encoder.convolutions is not None
    with torch.inference_mode():
        frames = encoder.convolutions(torch.from_numpy(expected["wav"]))
        layers = encoder([frames, frames[:26]], [Tap(layer) for layer in (1, 9, 10, 11, 12)])
        sentences = encoder.sentences([frames, frames[:26]], [1, 9, 12])
    for layer in (1, 9, 10, 11, 12):
        np.testing.assert_allclose(layers[Tap(layer)][0].numpy(), expected[f"h{layer}"][1:], atol=2e-4)
    for layer in (1, 9, 12):
        np.testing.assert_allclose(sentences[layer][0].numpy(), expected[f"h{layer}"][0], atol=2e-4)
    for layer in (9, 11):  # the authors' mask of half a second lets one more frame be seen
        np.testing.assert_allclose(layers[Tap(layer)][1].numpy(), expected[f"masked_h{layer}"][1:27], atol=2e-4)


@pytest.mark.parametrize("merging", ["", "_merge0.995", "_merge2.0"])
def test_segments_are_those_of_the_authors_code_alone_and_in_any_batch(
    golden: Path, official: Path, clips: tuple[Path, Path], merging: str
) -> None:
    settings = PRESETS["current"]
    if merging:
        settings = replace(settings, minimum_cut=replace(settings.minimum_cut, merge_threshold=float(merging[6:])))
    segmenter = Segmenter(official, settings)
    together = segmenter([golden / "sample.flac", *clips])
    for made, name in ((together[0], "sample"), (together[1], "a_single"), (segmenter(clips[0]), "a_single")):
        expected = np.load(golden / f"mincutwrapper_{name}{merging}.npz")
        np.testing.assert_array_equal(made.segments, expected["segments_sec"])
        np.testing.assert_allclose(made.segment_features, expected["segment_features"], atol=2e-4)
        assert made.length == int(expected["length"])
    if not merging:
        expected = np.load(golden / "segmenter_head_sample.npz")
        features, speech = together[0].features, together[0].speech
        assert features is not None
        assert speech is not None
        np.testing.assert_array_equal(speech, expected["mask"])
        np.testing.assert_allclose(np.where(speech[:, None], features, 0), expected["features"], atol=2e-4)


def test_windows_are_joined_as_by_the_authors_code(golden: Path, found: EncoderCheckpoint) -> None:
    samples, _ = soundfile.read(golden / "sample.flac", dtype="float32")
    wave = (samples - samples.mean()) / samples.std()
    wave = np.pad(wave, 1280)
    layer = EncoderLayer(found, 9)
    expected = np.load(golden / "segmenter_old_chunk5_sample.npz")
    chunks = [layer([np.pad(wave[first : first + 80_000], 160)])[0] for first in (0, 72_000, len(wave) - 80_000)]
    chunks[2] = chunks[2][159:249]  # the authors' code takes the last 5 s once more, and of these what comes anew
    joined, made = Joined(), np.zeros((0, 768), np.float32)
    for first, frames in zip((0, 225, 450), chunks, strict=True):
        for at, settled in joined.add(first, frames):
            assert at == len(made)
            made = np.concatenate([made, settled])
    made = np.concatenate([made, *(settled for _, settled in joined.rest())])
    kept = expected["mask"]
    assert len(made) == len(kept) == 540
    np.testing.assert_allclose(made[kept], expected["features"][kept], atol=2e-4)


def test_two_steps_of_training_are_those_of_the_authors_code(golden: Path, found: EncoderCheckpoint) -> None:
    expected = np.load(golden / "train_two_steps.npz")
    settings = DistillationSettings(center="batch", center_in_validation=True, reduction="sum")
    objective = SentenceDistillation(found.config, settings)
    state = {f"encoder.{name}": found.tensors[name] for name in found.tensors}
    state[f"encoder.{MASK_EMBEDDING}"] = found.heads[MASK_EMBEDDING]
    state |= {name: found.heads[name] for name in found.heads if name.startswith(DISTILLATION) and not name.endswith("center")}
    assert not objective.load_state_dict(state, strict=False).unexpected_keys
    objective.eval()
    as_it_is = Perturbed(torch.zeros(3, 49, dtype=torch.bool), torch.arange(49.0).repeat(3, 1))
    batch = SentenceBatch(torch.from_numpy(expected["wavs"]), as_it_is, as_it_is, 3.0)
    student = [*objective.encoder.blocks.parameters(), *objective.distillation.parameters()]
    for step in range(2):
        objective.begin_step()
        if step:
            np.testing.assert_allclose(
                objective.teacher.head.prototypes.weight[:4].numpy(), _moved(found, 0.999).numpy(), atol=1e-6
            )
        with torch.no_grad():
            loss = objective(batch).loss
        assert float(loss) == pytest.approx(float(expected[f"loss{step}"]), rel=1e-5)
        np.testing.assert_allclose(objective.center.numpy(), expected[f"center{step}"], atol=2e-5)
        with torch.no_grad():
            for parameter in student:
                parameter.mul_(1.5)
    objective.begin_step()
    np.testing.assert_allclose(
        objective.teacher.head.prototypes.weight[:4].numpy(), expected["ema_finallin_weight_after"], atol=1e-6
    )
    np.testing.assert_allclose(
        objective.distillation.prototypes.weight[:4].detach().numpy(), expected["student_finallin_weight_after"], atol=1e-6
    )
    assert objective.weight(batch) == 1.0


def _moved(found: EncoderCheckpoint, kept: float) -> torch.Tensor:
    weight = found.heads[f"{DISTILLATION}.prototypes.weight"][:4]
    return kept * weight + (1 - kept) * 1.5 * weight


def test_masks_and_stretches_are_drawn_as_by_the_authors_code(golden: Path) -> None:
    expected = np.load(golden / "specaugment.npz")
    for number in range(4):
        probability, length, seed = expected[f"mask{number}_args"].tolist()
        mask = time_mask(np.random.RandomState(int(seed)), 250, probability, int(length))
        np.testing.assert_array_equal(mask, expected[f"mask{number}"][0])
    for number in range(6):
        drawn = np.random.RandomState(int(expected[f"stretch{number}_seed"]))
        positions = torch.from_numpy(stretched(drawn, 60).astype(np.float32))[None]
        frames = torch.from_numpy(expected[f"stretch{number}_in"])
        made = Perturbed(torch.zeros(1, 60, dtype=torch.bool), positions)(frames, torch.zeros(4))
        np.testing.assert_allclose(made.numpy(), expected[f"stretch{number}_out"], atol=1e-4)


def test_the_authors_layout_is_written_with_all_its_tensors(golden: Path, found: EncoderCheckpoint, tmp_path: Path) -> None:
    write_encoder(found, tmp_path / "written.pt", "sdhubert")
    content = torch.load(tmp_path / "written.pt", weights_only=True)
    lines = (golden / "state_dict_keys.txt").read_text().splitlines()
    shapes = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    written = {name: str(tuple(tensor.shape)) for name, tensor in content["state_dict"].items()}
    assert written == shapes
    weights = golden_weights(golden)
    for name, tensor in content["state_dict"].items():
        if name not in ("layernorm.weight", "layernorm.bias", "center_momentum_", "speech_model.masked_spec_embed"):
            assert torch.equal(tensor, weights[name]), name
    assert read_encoder(tmp_path / "written.pt").digest == found.digest
    write_encoder(found, tmp_path / "ours", "vocable")
    ours = read_encoder(tmp_path / "ours")
    assert ours.digest == found.digest
    assert set(ours.heads) == set(found.heads)

"""HuBERT's objective is the reference's, written as cross-entropy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.made import made_encoder, tiny
from vocable.models.config import EncoderConfig, MelInput, base, large, xlarge
from vocable.models.regularization import Regularization
from vocable.models.taps import Tap
from vocable.pretraining.hubert import HubertObjective, LabelHead, MaskedBatch
from vocable.pretraining.loss_settings import LossSettings


def positives_and_negatives(projected: Tensor, labels: Tensor, embeddings: Tensor, temperature: float) -> Tensor:
    """Return the reference's loss, summed: each frame against its own label and all labels, its own among these left out."""
    total = projected.new_zeros(())
    for frame, label in zip(projected, labels, strict=True):
        candidates = torch.cat([embeddings[label][None], embeddings])
        logits = functional.cosine_similarity(frame[None], candidates, dim=1) / temperature
        same = (embeddings == embeddings[label]).all(dim=1)
        logits = torch.cat([logits[:1], logits[1:].masked_fill(same, -math.inf)])
        total = total + functional.cross_entropy(logits[None], torch.zeros(1, dtype=torch.long), reduction="sum")
    return total


def batch_of(config: EncoderConfig, labels: int, samples: int = 16_000, count: int = 2, sets: int = 1) -> MaskedBatch:
    torch.manual_seed(3)
    frames = config.frame_count(samples)
    audio = torch.randn(count, samples) / 10 if config.mel is None else torch.randn(count, frames, config.channels)
    mask = torch.zeros(count, frames, dtype=torch.bool)
    mask[:, 3:14] = True
    mask[0, 20:25] = True
    return MaskedBatch.of(audio, torch.randint(0, labels, (sets, count, frames)), mask, count * samples / 16_000)


def made_objective(config: EncoderConfig, labels: list[int], **settings: object) -> HubertObjective:
    torch.manual_seed(0)
    return HubertObjective(config, labels, LossSettings(**settings))  # type: ignore[arg-type]


def test_the_loss_is_that_of_positives_and_negatives_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    head = LabelHead(32, [23], LossSettings(projection=16)).double()
    frames, labels = torch.randn(40, 32, dtype=torch.float64), torch.randint(0, 23, (40,))
    head.float()
    frames = frames.float().requires_grad_()
    ours = functional.cross_entropy(head(frames)[0], labels, reduction="sum")
    found = torch.autograd.grad(ours, [frames, *head.parameters()])
    naive = positives_and_negatives(head.final_projection(frames), labels, head.label_embeddings, 0.1)
    expected = torch.autograd.grad(naive, [frames, *head.parameters()])
    assert float(ours.detach()) == pytest.approx(float(naive.detach()), rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("large_norms", [False, True])
def test_the_whole_loss_is_its_parts_added_up(large_norms: bool) -> None:
    config = tiny("hubert", large_norms)
    objective = made_objective(config, [11], projection=8, unmasked=0.5, penalty=10).eval()
    batch = batch_of(config, 11)
    made = objective(batch)
    convolved = torch.stack([objective.encoder.convolutions(waveform) for waveform in batch.audio])
    hidden = objective.encoder.masked(convolved, batch.mask).flatten(0, 1)
    projected, labels = objective.head.final_projection(hidden), batch.labels[0].flatten()
    flat = batch.mask.flatten()
    masked, unmasked = (
        positives_and_negatives(projected[where], labels[where], objective.head.label_embeddings, 0.1) for where in (flat, ~flat)
    )
    count = batch.mask.numel()
    assert objective.weight(batch) == count
    expected = masked + 0.5 * unmasked + 10 * convolved.pow(2).mean() * count
    assert float(made.loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(made.metrics["loss_masked"][0]) == pytest.approx(float(masked), rel=1e-5)
    assert float(made.metrics["loss_masked"][1]) == int(flat.sum())
    own = functional.cosine_similarity(projected[:, None], objective.head.label_embeddings[None], dim=2).argmax(1) == labels
    assert float(made.metrics["accuracy_masked"][0]) == int(own[flat].sum())
    assert float(made.metrics["accuracy_unmasked"][0]) == int(own[~flat].sum())


@pytest.mark.parametrize("large_norms", [False, True])
def test_without_a_mask_training_sees_what_features_are_made_of(large_norms: bool) -> None:
    config = tiny("hubert", large_norms)
    encoder = made_encoder(config).train()
    waveforms = torch.randn(3, 12_345) / 10
    with torch.no_grad():
        convolved = [encoder.convolutions(waveform) for waveform in waveforms]
        shown = torch.zeros(3, len(convolved[0]), dtype=torch.bool)
        trained = encoder.masked(torch.stack(convolved), shown)
        described = encoder.eval()(convolved, [Tap(3, "final")])[Tap(3, "final")]
    assert float((trained - torch.stack(described)).abs().max()) < 2e-5


def test_a_hidden_frame_is_not_seen() -> None:
    config = tiny()
    objective = made_objective(config, [11]).eval()
    batch = batch_of(config, 11)
    convolved = torch.stack([objective.encoder.convolutions(waveform) for waveform in batch.audio])
    other = torch.where(batch.mask[..., None], torch.randn_like(convolved), convolved)
    assert torch.equal(objective.encoder.masked(convolved, batch.mask), objective.encoder.masked(other, batch.mask))


def test_several_label_sets_are_added_up() -> None:
    config = tiny()
    objective = made_objective(config, [11, 7], projection=8, penalty=0).eval()
    batch = batch_of(config, 7, sets=2)
    made = objective(batch).loss
    convolved = torch.stack([objective.encoder.convolutions(waveform) for waveform in batch.audio])
    hidden = objective.encoder.masked(convolved, batch.mask).flatten(0, 1)[batch.hidden]
    projected = objective.head.final_projection(hidden)
    sets = objective.head.label_embeddings.split([11, 7])
    parts = [
        positives_and_negatives(part, labels.flatten()[batch.hidden], embeddings, 0.1)
        for part, labels, embeddings in zip(projected.chunk(2, dim=1), batch.labels, sets, strict=True)
    ]
    assert float(made) == pytest.approx(float(sum(parts)), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("labels", [100, 500])
def test_the_first_loss_is_near_that_of_guessing(kind: str, labels: int) -> None:
    config = replace(base(), layers=2)
    torch.manual_seed(1)
    objective = HubertObjective(config, [labels], LossSettings(kind=kind)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        loss = objective(batch_of(config, labels)).metrics["loss_masked"]
    assert float(loss[0] / loss[1]) == pytest.approx(math.log(labels), rel=0.05)


@pytest.mark.parametrize(
    ("config", "projection", "millions"), [(base(), 256, 94_697_600), (large(), 768, 316_609_280), (xlarge(), 1024, 964_321_536)]
)
def test_parameters_are_as_many_as_fairseqs_with_heads(config: EncoderConfig, projection: int, millions: int) -> None:
    with torch.device("meta"):
        objective = HubertObjective(config, [504], LossSettings(projection=projection))
    count = sum(parameter.numel() for parameter in objective.parameters())
    encoder = {768: 94_371_712, 1024: 315_435_136, 1280: 962_493_824}[config.dim]
    heads = 504 * projection + projection * (config.dim + 1)
    assert count - encoder == heads
    assert config.dim != 768 or count == millions


def test_gradients_reach_everything_and_the_convolutions_by_a_part() -> None:
    config = tiny("hubert", convolution_bias=True)
    batch = batch_of(config, 11)
    found = {}
    for part in (1.0, 0.1, 0.0):
        torch.manual_seed(0)
        objective = HubertObjective(config, [11], LossSettings(penalty=0), Regularization(feature_gradient=part)).train()
        objective(batch).loss.backward()
        missing = [name for name, value in objective.named_parameters() if value.grad is None]
        assert all(name.startswith("encoder.convolutions") for name in missing)
        assert bool(missing) == (part == 0)
        found[part] = objective.encoder.convolutions.layers[3].weight.grad
    assert torch.allclose(found[0.1], found[1.0] / 10, rtol=1e-4)


def test_dropping_layers_follows_the_generator() -> None:
    config = tiny()
    objective = HubertObjective(config, [11], regularization=Regularization(layer_drop=0.5, dropout=0.1)).train()
    batch = batch_of(config, 11)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(objective(batch).loss)

    assert loss(1) == loss(1)
    assert len({loss(seed) for seed in range(6)}) == 6


def test_frames_of_log_mel_take_the_place_of_convolutions() -> None:
    config = tiny("hubert", convolutions=(), mel=MelInput(40, 2))
    objective = made_objective(config, [11]).train()
    made = objective(batch_of(config, 11))
    made.loss.backward()
    assert "penalty" not in made.metrics
    assert all(value.grad is not None for value in objective.parameters())

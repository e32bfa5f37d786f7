"""The objective of a detokenizer: frames out of their centroids (SEF-MK, arXiv 2508.07086)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.anonymization.centroids import Centroids
from vocable.clustering.fleets import Fleet
from vocable.errors import InputError
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.training.objective import Losses

_WIDTH, _SPREAD = 11, 1.5  # of the window of structural similarity
_STEADY = (0.01**2, 0.03**2)


@dataclass(frozen=True, kw_only=True)
class DetokenizationSettings:
    """What a detokenizer is to come near to.

    Raises:
        InputError: a part is none.
    """

    similarity: float = 0.0
    """How much unlikeness in structure (1 - SSIM) counts beside the mean squared error."""
    masked: float = 0.0
    """Part of the frames that are zeros before they are looked up; SEF-MK's first detokenizer has 0.1."""
    reference_quirks: bool = False
    """Add the similarity itself, as SEF-MK's code does, so that training lowers it."""

    def __post_init__(self) -> None:
        if not self.similarity >= 0 or not 0 <= self.masked < 1:
            raise InputError(f"similarity {self.similarity} and masked {self.masked}: give 0 or more, of the latter below 1")


@dataclass(frozen=True)
class FrameBatch:
    """Crops of utterances, of one length."""

    tokens: Tensor
    """What frames were looked up as, of shape (utterances, frames, groups)."""
    codebooks: Tensor
    """In which codebook, of shape (utterances,)."""
    clean: Tensor
    """The frames themselves, of shape (utterances, frames, values)."""
    seconds: float
    fleet: int = 0
    """The codebooks are of this one."""

    def to(self, device: torch.device) -> FrameBatch:
        """Return the batch on a device."""
        return self._mapped(lambda item: item.to(device, non_blocking=True))

    def pinned(self) -> FrameBatch:
        """Return the batch in memory that a GPU copies from while the processor goes on."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> FrameBatch:
        return replace(self, tokens=change(self.tokens), codebooks=change(self.codebooks), clean=change(self.clean))


class Detokenization(nn.Module):
    """A conformer that makes frames of centroids.

    Args:
        config: of the conformer.
        fleets: codebooks that frames are looked up in.
        settings: what it is to come near to.
    """

    def __init__(self, config: ConformerConfig, fleets: Sequence[Fleet], settings: DetokenizationSettings | None = None) -> None:
        super().__init__()
        self._settings = settings or DetokenizationSettings()
        self.centroids = Centroids(fleets)
        self.conformer = Conformer(config)

    def weight(self, batch: FrameBatch) -> float:
        """Return how many frames there are."""
        return float(batch.clean.shape[0] * batch.clean.shape[1])

    def forward(self, batch: FrameBatch) -> Losses:
        """Return the squared error of each frame's values, their mean, summed over frames."""
        centroids = self.centroids(batch.tokens, batch.codebooks, batch.fleet)
        made = torch.stack(self.conformer(list(centroids))).float()
        frames = torch.tensor(self.weight(batch), device=made.device)
        error = (made - batch.clean).square().mean(dim=2).sum()
        bare = (centroids - batch.clean).square().mean(dim=2).sum()
        metrics = {"error": torch.stack([error.detach(), frames]), "error_of_centroids": torch.stack([bare, frames])}
        loss = error
        if self._settings.similarity:
            alike = structural_similarity(made, batch.clean)
            metrics["similarity"] = torch.stack([alike.detach() * frames, frames])
            loss = loss + self._settings.similarity * frames * (alike if self._settings.reference_quirks else 1 - alike)
        return Losses(loss, metrics)


def structural_similarity(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean structural similarity of frames taken for images of one channel (Wang et al. 2004), as SEF-MK has it.

    Args:
        one: of shape (utterances, frames, values).
        other: of the same shape.
    """
    window = _window().to(one.device, one.dtype)

    def smooth(values: Tensor) -> Tensor:
        across = functional.conv2d(values[:, None], window[None, None, None, :], padding=(0, _WIDTH // 2))
        return functional.conv2d(across, window[None, None, :, None], padding=(_WIDTH // 2, 0))[:, 0]

    means = smooth(one), smooth(other)
    spreads = smooth(one * one) - means[0] ** 2, smooth(other * other) - means[1] ** 2
    together = smooth(one * other) - means[0] * means[1]
    luminance = (2 * means[0] * means[1] + _STEADY[0]) / (means[0] ** 2 + means[1] ** 2 + _STEADY[0])
    structure = (2 * together + _STEADY[1]) / (spreads[0] + spreads[1] + _STEADY[1])
    return (luminance * structure).mean()


@cache
def _window() -> Tensor:
    places = torch.arange(_WIDTH, dtype=torch.float64) - _WIDTH // 2
    weights = torch.exp(-(places**2) / (2 * _SPREAD**2))
    return (weights / weights.sum()).float()

"""`Centroids`: the codebooks of fleets on a device, where tokens are turned into centroids."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vocable.clustering.fleets import Fleet


class Centroids(nn.Module):
    """Tokens to centroids.

    They move to a device with the model that they belong to, and aren't among its weights.

    Args:
        fleets: the codebooks, of one dim and the same groups.
    """

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        super().__init__()
        self._groups = fleets[0].groups
        for number, fleet in enumerate(fleets):
            with warnings.catch_warnings():  # nobody writes to what is mapped from a file
                warnings.simplefilter("ignore", UserWarning)
                self.register_buffer(f"fleet{number}", torch.from_numpy(fleet.codebooks), persistent=False)

    def forward(self, tokens: Tensor, codebooks: Tensor, fleet: int = 0) -> Tensor:
        """Return the centroids of tokens, of shape (utterances, frames, dim), float32.

        Args:
            tokens: of shape (utterances, frames, groups).
            codebooks: of each utterance, of shape (utterances,).
            fleet: which one they are in.
        """
        stack: Tensor = self.get_buffer(f"fleet{fleet}")
        rows = codebooks[:, None]
        parts = [stack[rows, tokens[:, :, number], first:last] for number, (first, last) in enumerate(self._groups)]
        return torch.cat(parts, dim=2).float()

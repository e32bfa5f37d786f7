"""Utterances as micro-batches of crops, with what is done to the frames that student and teacher see."""

from __future__ import annotations

import torch

from vocable.models.config import EncoderConfig
from vocable.syllables.distillation import SentenceBatch
from vocable.syllables.perturbation import PerturbationSettings, perturbed
from vocable.training.batches import BatchSettings
from vocable.training.crops import Crops
from vocable.training.inputs import Inputs
from vocable.training.objective import Made

_UNCHANGED = PerturbationSettings(masks=(), stretch=0.0)


class SentenceAudio:
    """Micro-batches of utterances without labels.

    Where the authors' batches are padded to their longest utterance, here all of a micro-batch are of one length, and nothing is
    padded.

    Args:
        inputs: the utterances.
        config: of the encoder that is to see them.
        batches: how much goes into a micro-batch.
        perturbation: what is done to frames.
        seed: of all that is random.

    Raises:
        InputError: no utterance is long enough.
    """

    def __init__(
        self, inputs: Inputs, config: EncoderConfig, batches: BatchSettings, perturbation: PerturbationSettings, seed: int
    ) -> None:
        self._perturbation = perturbation
        self._crops = Crops(inputs, inputs.frames, config, batches, seed)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._crops.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._crops.utterances

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position.

        Raises:
            InputError: an utterance can't be read, nor can others in its place.
        """
        found = self._crops.at(position)
        count = len(found.audio)
        student = perturbed(found.drawn, count, found.length, self._perturbation)
        teacher = perturbed(found.drawn, count, found.length, self._perturbation if self._perturbation.teacher else _UNCHANGED)
        return Made(SentenceBatch(torch.stack(found.audio), student, teacher, found.seconds), found.unreadable)

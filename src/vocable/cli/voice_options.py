"""Options that say with which voices speech is said anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.errors import InputError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Voices:
    """With which voices speech is said anew."""

    model: Path | None = None
    "A detokenizer, such as SEF-MK's librispeech_conformer_e_50.pth. Codebooks of cepstra need none."
    encoder: str | None = None
    "The checkpoint that the codebooks are of; with --model."
    vocoder: Path | None = None
    "Another vocoder than the model's, such as knn-vc's g_02500000.pt; for codebooks of cepstra one of 'vocable train vocoder'."
    per: Literal["audio", "frame"] = "audio"
    "audio: a codebook for each file; frame: one for every --stride frames."
    stride: int = 1
    "Frames: of 20 ms with WavLM, of 10 ms without a model."
    codebooks_used: int | None = None
    "Draw from so many of the codebooks, which the key chooses, or without one the codebooks themselves; by default from all."
    distance: float | None = None
    "Of voices from the usual one, as a multiple: farther ones hide more; by default 1.4. For codebooks of cepstra alone."

    def settings(self) -> dict[str, Any]:
        """Return what they are called where speech is converted.

        Raises:
            InputError: options don't go together.
        """
        if self.per == "audio" and spelled(["stride"]):
            raise InputError("--stride goes with --per frame: give that, or leave it out")
        return {
            "model": self.model, "encoder": self.encoder, "vocoder": self.vocoder, "per": self.per, "stride": self.stride,
            "used": self.codebooks_used, "distance": self.distance,
        }  # fmt: skip

"""SD-HuBERT's Python interface, as its README has it: `mincut(segmenter(wav))`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vocable.errors import InputError
from vocable.syllables.cutting import cut_stretches
from vocable.syllables.hearing import Recording
from vocable.syllables.segmenter import Segmenter
from vocable.syllables.settings import PRESETS, MinimumCut
from vocable.syllables.voicing import scaled_norms, voiced_stretches

Result = dict[str, Any]


class SDHuBERTSegmenter:
    """Audio to stretches of speech.

    Args:
        ckpt: a checkpoint of SD-HuBERT, in any layout.
        layer: whose frames are returned.
        normcut_layer: whose norms tell speech.
        normcut_strategy: `relative` or `absolute`.
        normcut_threshold: above which a frame is speech.
        silence_threshold: stretches that are no louder are left out.
        min_segment_len: frames; shorter stretches are left out.
        device: a torch device; without a GPU, cuda is the CPU.
    """

    def __init__(
        self,
        ckpt: str | Path = "ckpts/sdhubert_base.pt",
        layer: int = 9,
        normcut_layer: int = 10,
        normcut_strategy: Literal["relative", "absolute"] = "relative",
        normcut_threshold: float = 0.1,
        silence_threshold: float = 0.02,
        min_segment_len: int = 2,
        device: str = "cuda",
    ) -> None:
        self._voicing = replace(
            PRESETS["current"].voicing,
            layer=normcut_layer,
            strategy=normcut_strategy,
            threshold=normcut_threshold,
            silence=silence_threshold,
            least_frames=min_segment_len,
        )
        settings = replace(PRESETS["current"], layer=layer, voicing=self._voicing)
        there = not device.startswith("cuda") or torch.cuda.is_available()
        self._segmenter = Segmenter(ckpt, settings, device=device if there else "cpu")

    def __call__(self, wav: Any) -> Any:
        """Return segments, features, mask and norm of a file or waveform; of a list, a list of them.

        Raises:
            AudioFault: a file can't be read, or is shorter than a frame.
        """
        several = isinstance(wav, Sequence) and not isinstance(wav, str)
        given = [Recording(str(item), 1) if isinstance(item, (str, Path)) else item for item in (wav if several else [wav])]
        found = [self._of(item) for item in self._segmenter.heard(given)]
        return found if several else found[0]

    def _of(self, heard: Any) -> Result:
        norms = scaled_norms(heard.norms, self._voicing.strategy)
        mask = norms > self._voicing.threshold
        stretches = voiced_stretches(norms, heard.loudness, self._voicing)
        features = heard.frames.read(0, heard.frames.count).copy()
        features[~mask] = 0
        return {"segments": stretches, "features": features, "mask": mask, "norm": norms}


class MincutWrapper:
    """Stretches of speech to syllables.

    Args:
        syl_dur: seconds of a piece before any are merged.
        ft_sr: frames per second.
        merge_threshold: least cosine of neighbours that become one.
        min_segment_len: frames; shorter pieces are left out.
        min_cut_minimum: frames; shorter stretches aren't cut.
    """

    def __init__(
        self,
        syl_dur: float = 0.1,
        ft_sr: int = 50,
        merge_threshold: float = 0.4,
        min_segment_len: int = 1,
        min_cut_minimum: int = 1,
    ) -> None:
        if not ft_sr > 0:
            raise InputError(f"ft_sr={ft_sr}: give frames per second, above 0")
        self._rate = ft_sr
        self._settings = MinimumCut(
            syllable_seconds=syl_dur,
            merge_threshold=merge_threshold,
            shortest=min_segment_len,
            cut_from=min_cut_minimum,
        )

    def __call__(self, outputs: Any, output_in_second: bool = True) -> Any:
        """Return segments, features, length and segment_features of what `SDHuBERTSegmenter` returned; of a list, a list."""
        if isinstance(outputs, dict):
            return self.process(outputs, output_in_second)
        return [self.process(item, output_in_second) for item in outputs]

    def process(self, output: Result, output_in_second: bool = True) -> Result:
        """Return the syllables of one utterance; their times in seconds, or in frames."""
        features = output["features"]
        stretches = np.asarray(output["segments"]).reshape(-1, 2).astype(np.int64)
        found = cut_stretches(lambda first, last: features[first:last], stretches, self._settings, self._rate).segments
        means = [features[first:last].mean(axis=0) for first, last in found.tolist()]
        return {
            "segments": found / self._rate if output_in_second else found,
            "features": features,
            "length": len(features),
            "segment_features": np.stack(means) if means else np.zeros((0, features.shape[1]), np.float32),
        }


__all__ = ["MincutWrapper", "SDHuBERTSegmenter"]

"""From audio to labels, block by block: the job, its results in the ledger, and the merged files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import Block
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.execution.stages import Finished, Payload
from vocable.features.kaldi import Frames
from vocable.features.pipeline import FramePipeline
from vocable.units.units import Sequence, UnitsHeader, unit_type


@dataclass(frozen=True)
class LabelBlocks:
    """A job: decode a block's utterances, extract their frames, label them. No frame leaves the worker.

    Raises:
        MismatchError: the pipeline's frames aren't those of the codebook.
    """

    pipeline: FramePipeline
    codebook: Codebook

    def __post_init__(self) -> None:
        if self.codebook.spec is not None:
            self.codebook.spec.require_equal(self.pipeline.spec, "the codebook", "the frames to label")

    @property
    def key(self) -> str:
        """Digest of all that labels depend on beside the audio."""
        return digest_of([self.codebook.digest, self.pipeline.key])

    def open(self, device: str) -> Callable[[Block], Payload]:
        """Return the function that turns a block into its labels' bytes and a summary of them."""
        frames_of = self.pipeline.open(device)
        label = labeller_for(device)(self.codebook.centroids)
        dtype = np.dtype(unit_type(len(self.codebook))).newbyteorder("<")

        def run(block: Block) -> Payload:
            made = frames_of(block)
            labels = _labelled(made.frames, label, dtype)
            summary = {
                "rows": made.rows,
                "lengths": [len(item) for item in labels],
                "skipped": made.summary(),
            }
            return b"".join(item.tobytes() for item in labels), summary

        return run


def _labelled(frames: list[Frames], label: NearestCentroid, dtype: np.dtype[Any]) -> list[NDArray[Any]]:
    """Return the labels of utterances, all labelled at once: a label doesn't depend on that, and it takes less time."""
    if not frames:
        return []
    labels = label(np.concatenate(frames)).astype(dtype)
    return np.split(labels, np.cumsum([len(item) for item in frames])[:-1])


def units_header(codebook: Codebook, manifest_digest: str | None) -> UnitsHeader:
    """Return what label files say of labels made with a codebook."""
    spec = codebook.spec
    return UnitsHeader(
        clusters=len(codebook),
        rate=None if spec is None else spec.rate,
        codebook=codebook.digest,
        manifest=manifest_digest,
        features={} if spec is None else spec.identity(),
    )


def labelled_rows(finished: Finished[Block], clusters: int) -> Iterator[tuple[int, Sequence]]:
    """Yield each labelled row of the manifest with its units, block after block."""
    dtype = np.dtype(unit_type(clusters)).newbyteorder("<")
    for block, entry, content in finished.results():
        ends = np.cumsum(entry.summary["lengths"], dtype=np.int64)
        rows = (block.first + row for row in entry.summary["rows"])
        yield from zip(
            rows, np.split(np.frombuffer(content, dtype=dtype), ends[:-1]), strict=False
        )  # no rows have one empty part

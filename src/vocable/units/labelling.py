"""From audio to labels, block by block: the job, its results in the ledger, and the merged files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import Block
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.execution.stages import Finished, Payload
from vocable.features.pipeline import BlockFrames, FramePipeline
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
        clusters = len(self.codebook)

        def run(block: Block) -> Payload:
            made = frames_of(block)
            # All at once: a label doesn't depend on that, and it takes less time.
            labels = label(np.concatenate(made.frames)) if made.frames else np.empty(0, np.int32)
            return labels_payload(labels, clusters, MadeRows.of(made))

        return run


@dataclass(frozen=True)
class MadeRows:
    """What is known of a block's utterances beside their frames."""

    rows: list[int]
    """The places in the block that have frames."""
    lengths: list[int]
    """How many."""
    skipped: list[list[Any]]
    """As `BlockFrames.summary` says."""

    @classmethod
    def of(cls, made: BlockFrames) -> Self:
        """Return what is known of a block whose frames were made."""
        return cls(made.rows, [len(frames) for frames in made.frames], made.summary())


def labels_payload(labels: NDArray[np.integer[Any]], clusters: int, made: MadeRows) -> Payload:
    """Return a block's labels as the ledger keeps them.

    Args:
        labels: of all frames of the block, one utterance after the other.
        clusters: how many labels there are.
        made: of the block.
    """
    dtype = np.dtype(unit_type(clusters)).newbyteorder("<")
    return labels.astype(dtype).tobytes(), {"rows": made.rows, "lengths": made.lengths, "skipped": made.skipped}


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

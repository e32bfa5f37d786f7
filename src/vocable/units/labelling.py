"""From audio to labels, block by block: the job, its results in the ledger, and the merged files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import Block
from vocable.clustering.codebook import Codebook
from vocable.clustering.labellers import labeller_for
from vocable.execution.ledger import Entry, Ledger
from vocable.execution.stages import Payload
from vocable.features.pipeline import FramePipeline
from vocable.units.units import Sequence, UnitsHeader, unit_type

STAGE = "units"


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

    def key(self, manifest_digest: str, speakers: tuple[str | None, ...] | None = None) -> str:
        """Return the digest of all that the labels depend on."""
        by_speaker = self.pipeline.normalization.scope == "speaker"
        return digest_of([manifest_digest, self.codebook.digest, self.pipeline.spec.identity(), speakers if by_speaker else None])

    def open(self, device: str) -> Callable[[Block], Payload]:
        """Return the function that turns a block into its labels' bytes and a summary of them."""
        frames_of = self.pipeline.open(device)
        label = labeller_for(device)(self.codebook.centroids)
        dtype = np.dtype(unit_type(len(self.codebook))).newbyteorder("<")

        def run(block: Block) -> Payload:
            made = frames_of(block)
            labels = [label(frames).astype(dtype) for frames in made.frames]
            summary = {
                "rows": made.rows,
                "lengths": [len(item) for item in labels],
                "skipped": made.summary(),
            }
            return b"".join(item.tobytes() for item in labels), summary

        return run


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


def labelled_rows(ledger: Ledger, entries: Iterable[Entry], clusters: int) -> Iterator[tuple[int, Sequence]]:
    """Yield each labelled row of the manifest with its units, block after block."""
    dtype = np.dtype(unit_type(clusters)).newbyteorder("<")
    for entry in sorted(entries, key=lambda item: item.block):
        values = np.frombuffer(ledger.read(entry), dtype=dtype)
        ends = np.cumsum(entry.summary["lengths"], dtype=np.int64)
        yield from zip(entry.summary["rows"], np.split(values, ends[:-1]), strict=False)

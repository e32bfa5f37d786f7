"""Labelling a manifest: blocks to the ledger, then one label file in the manifest's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocable.audio.blocks import Block, blocks_of, shard_bounds
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import write_manifest
from vocable.clustering.codebook import Codebook
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Stage
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.units.label_files import text_writer, write_units
from vocable.units.labelling import STAGE, LabelBlocks, labelled_rows, units_header
from vocable.units.units import Sequence as UnitSequence
from vocable.units.units import Units


@dataclass(frozen=True)
class Labels:
    """The labels of a manifest, as far as they are made."""

    finished: Finished[Block]
    manifest: Manifest
    codebook: Codebook
    missing: int
    """Blocks that other shards have still to do."""

    def skipped(self) -> dict[int, Skipped]:
        """Return the rows that were left out, with the reason."""
        return skipped_rows(self.finished)

    def kept(self) -> Manifest:
        """Return the rows that have labels."""
        out = self.skipped()
        return self.manifest.select([row for row in range(len(self.manifest)) if row not in out]) if out else self.manifest

    def sequences(self) -> Iterator[UnitSequence]:
        """Yield the units of each row that has labels, in order."""
        entries = self.finished.entries.values()
        return (units for _, units in labelled_rows(self.finished.ledger, entries, len(self.codebook)))

    def write(self, folder: Path, name: str, forms: Sequence[str] = (".km",), manifest_form: str = ".tsv") -> list[Path]:
        """Write `name.tsv` with the rows that have labels, and their labels in each form; return the files."""
        kept = self.kept()
        header = units_header(self.codebook, kept.digest)
        written = [folder / f"{name}{manifest_form}"]
        write_manifest(written[0], kept)
        for form in forms:
            path = folder / f"{name}{form}"
            if form == ".units":
                write_units(path, Units.of(self.sequences(), header, kept.ids))
            else:
                with text_writer(path, header) as write:
                    for sequence in self.sequences():
                        write(sequence)
            written.append(path)
        return written


def label_manifest(
    manifest: Manifest, pipeline: FramePipeline, codebook: Codebook, engine: Engine, folder: Path, title: str = "units"
) -> Labels:
    """Label this run's shard of a manifest's blocks; results go to the ledger in `folder`."""
    job = LabelBlocks(pipeline, codebook)
    stage = Stage(STAGE, job.key(manifest.digest, manifest.speakers), folder)
    blocks = list(blocks_of(manifest))
    first, last = shard_bounds(len(blocks), engine.work.nshard, engine.work.rank)
    mine = blocks[first:last]
    with progress(title, sum(block.size for block in mine)) as shown:
        finished = stage.run(job, mine, engine, shown)
    return Labels(finished, manifest, codebook, len(blocks) - len(finished.entries) - len(finished.died))

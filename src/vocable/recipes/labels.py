"""Labelling a manifest: blocks to the ledger, then label files in the manifest's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from vocable.audio.blocks import Block, blocks_of, shard_bounds
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.clustering.codebook import Codebook
from vocable.errors import InputError
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.recipes.companion_manifest import manifest_files, possible_manifest_files, write_manifest_beside
from vocable.units.exports import EXPORTS, export_files, named, pyarrow_for, write_export
from vocable.units.label_files import SUFFIXES, header_file, text_writer, write_units
from vocable.units.labelling import LabelBlocks, labelled_rows, units_header
from vocable.units.units import Sequence as UnitSequence
from vocable.units.units import Units, UnitsHeader


@dataclass(frozen=True)
class Labels:
    """The labels of a manifest, as far as they are made."""

    finished: Finished[Block]
    manifest: Manifest
    codebook: Codebook

    @property
    def missing(self) -> int:
        """Blocks that other parts of the work have still to do."""
        return self.finished.missing

    @cached_property
    def skipped(self) -> dict[int, Skipped]:
        """The rows that were left out, with the reason."""
        return skipped_rows(self.finished)

    @cached_property
    def kept(self) -> Manifest:
        """The rows that have labels."""
        out = self.skipped
        return self.manifest.select([row for row in range(len(self.manifest)) if row not in out]) if out else self.manifest

    def sequences(self) -> Iterator[UnitSequence]:
        """Yield the units of each row that has labels, in order."""
        return (units for _, units in labelled_rows(self.finished, len(self.codebook)))

    def write(self, folder: Path, name: str, forms: Sequence[str] = (".km",), runs: bool = False) -> None:
        """Write the manifest of the rows that have labels, and their labels in each form."""
        header = units_header(self.codebook, self.kept.digest)
        write_label_files(folder, name, forms, header, self.kept, self.sequences, runs)


def label_manifests(
    manifests: Mapping[str, Manifest],
    pipeline: FramePipeline,
    codebook: Codebook,
    engine: Engine,
    folder: Path,
    title: str,
    known: Mapping[str, Payload] | None = None,
) -> dict[str, Labels]:
    """Label this run's part of the blocks of some manifests; results go to the ledger in `folder`.

    They are one stage, so that the part of the work that finishes last sees all results, whichever manifest they are of.

    Args:
        manifests: by name.
        pipeline: makes the frames.
        codebook: to label with.
        engine: runs the work.
        folder: where finished blocks are kept.
        title: of the progress.
        known: labels that were found on the way to the codebook, by the content of the block.
    """
    job = LabelBlocks(pipeline, codebook)
    cuts = {name: list(blocks_of(manifest)) for name, manifest in manifests.items()}
    blocks = [block for cut in cuts.values() for block in cut]
    mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
    with progress(title, sum(block.size for block in blocks[mine])) as shown:
        finished = Stage("units", [job.key, engine.work.kind], folder).run(job, blocks, engine, shown, mine, known or {})
    entries = iter(finished.blocks)
    return {
        name: Labels(replace(finished, blocks=list(islice(entries, len(cut)))), manifests[name], codebook)
        for name, cut in cuts.items()
    }


def require_ids_for(forms: Sequence[str], manifest: Manifest | None, stem: Path) -> None:
    """Refuse, before the work, a form that keeps utterance ids where there is no manifest to take them from.

    Raises:
        InputError: names the file.
    """
    for form in forms:
        if form == ".units.parquet":
            pyarrow_for(stem.with_name(stem.name + form))
        if (form == ".units" or form in EXPORTS) and manifest is None:
            raise InputError(f"{stem}{form}: this form keeps utterance ids, and no manifest tells them: take --form km")


def write_label_files(
    folder: Path,
    name: str,
    forms: Sequence[str],
    header: UnitsHeader,
    manifest: Manifest | None,
    sequences: Callable[[], Iterable[UnitSequence]],
    runs: bool = False,
) -> None:
    """Write a manifest, if there is one, and labels in each form.

    Args:
        folder: for the files.
        name: of the files.
        forms: suffixes of the label files.
        header: what made the labels.
        manifest: the rows of the labels; the compact form takes its ids.
        sequences: returns the labels afresh, utterance by utterance.
        runs: in JSON lines and Parquet, units without repetitions and how long they last.
    """
    if manifest is not None:
        write_manifest_beside(folder / name, manifest)
    for form in forms:
        path = folder / f"{name}{form}"
        if form in EXPORTS:
            assert manifest is not None
            seconds = (manifest.samples / manifest.sample_rate).tolist()
            write_export(folder, name, form, header, named(manifest.ids, seconds, sequences()), runs)
        elif form != ".units":
            with text_writer(path, header) as write:
                for sequence in sequences():
                    write(sequence)
        else:
            assert manifest is not None
            write_units(path, Units.of(sequences(), header, manifest.ids))


def label_files(folder: Path, name: str, forms: Sequence[str] = (), manifest: Manifest | None = None) -> list[Path]:
    """Return what `write_label_files` writes; without forms, what it writes in any form with any manifest."""
    if forms:
        files = [] if manifest is None else manifest_files(folder / name, manifest)
    else:
        forms, files = (*SUFFIXES, *(form for form in EXPORTS if form != ".TextGrid")), possible_manifest_files(folder / name)
    for form in forms:
        if form in EXPORTS:
            files += export_files(folder, name, form, () if manifest is None else manifest.ids)
            continue
        files.append(folder / f"{name}{form}")
        if form != ".units":
            files.append(header_file(files[-1]))
    return files

"""Label files of speakers and pitch, made without listening."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vocable.artefacts.headers import write_header
from vocable.audio.manifest_files import read_manifest
from vocable.units.label_files import header_file
from vocable.units.pitch_labels import PitchBins, write_pitch_labels
from vocable.units.speaker_labels import counted, write_speaker_dictionary, write_speaker_labels

BINS = 6


def write_voices(manifests: Path, out: Path, headers: bool = True) -> Path:
    """Write `.spk`, `.f0`, the dictionary and the bins for train and valid; the names of files begin with those of speakers."""
    found = {split: read_manifest(manifests / f"{split}.tsv") for split in ("train", "valid")}
    speakers = {split: [Path(path).name.partition("-")[0] for path in rows.paths] for split, rows in found.items()}
    counts, bins = counted(speakers["train"]), PitchBins.uniform(BINS, "none", 50.0, 600.0)
    out.mkdir(exist_ok=True)
    write_speaker_dictionary(out / "dict.spk.txt", counts)
    write_header(out / "f0.json", bins.to_json())
    for split, manifest in found.items():
        drawn = np.random.default_rng(3)
        lengths = [1 + (int(samples) - 400) // 160 for samples in manifest.samples]
        pitch = [np.repeat(drawn.integers(-1, BINS, 1 + length // 5), 5)[:length].astype(np.int16) for length in lengths]
        write_speaker_labels(out / f"{split}.spk", speakers[split], counts, manifest.digest)
        write_pitch_labels(out / f"{split}.f0", pitch, bins, manifest.digest, {})
        if not headers:
            for ending in ("spk", "f0"):
                header_file(out / f"{split}.{ending}").unlink()
    return out

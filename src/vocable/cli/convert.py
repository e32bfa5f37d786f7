"""`vocable convert`."""

from __future__ import annotations

from pathlib import Path

from vocable.recipes.conversion import convert as convert_file


def convert(
    source: Path,
    target: Path,
    /,
    *,
    manifest: Path | None = None,
    sample_rate: int | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a file to the form that the target's ending names.

    Codebooks: .safetensors, .npy, and scikit-learn's models (pickle, joblib), which are read without running anything in
    them. Labels: .km, .units, .rle. Manifests: .tsv, .scp, .csv, .jsonl, .parquet.

    Parameters
    ----------
    source
        The file to read.
    target
        The file to write.
    manifest
        Whose utterance ids labels get that don't hold them, for .units.
    sample_rate
        Hz in which a manifest counts, where it doesn't say; 16000 by default.
    overwrite
        Replace the target if it is there.
    """
    print(f"{target}: {convert_file(source, target, manifest, sample_rate, overwrite)}")

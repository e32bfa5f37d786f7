"""`vocable convert`."""

from __future__ import annotations

from pathlib import Path

from vocable.checkpoints.layouts import WrittenLayout
from vocable.errors import InputError
from vocable.models.config import WaveformNormalization
from vocable.recipes.conversion import convert as convert_file
from vocable.recipes.conversion import convert_encoder, is_encoder


def convert(
    source: str,
    target: Path,
    /,
    *,
    to: WrittenLayout | None = None,
    waveform_normalization: WaveformNormalization | None = None,
    mean_std: Path | None = None,
    manifest: Path | None = None,
    sample_rate: int | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a file to the form that the target's ending names, or an encoder to the layout that --to names.

    Codebooks: .safetensors, .npy, and scikit-learn's models (pickle, joblib), which are read without running anything in
    them. Labels: .km, .units, .rle. Manifests: .tsv, .scp, .csv, .jsonl, .parquet. Encoders: HuBERT, wav2vec 2.0 and WavLM of
    fairseq, transformers, torchaudio, s3prl and Microsoft; MelHuBERT of its authors, with --mean-std.

    Parameters
    ----------
    source
        The file to read; of an encoder a folder, too, or a name on the Hub.
    target
        The file to write; of an encoder a folder, or with --to fairseq or melhubert a file.
    to
        The layout of an encoder.
    waveform_normalization
        How an encoder's waveforms are normalised, in place of what its checkpoint says.
    mean_std
        The .npy of mean and deviation that goes with a checkpoint of MelHuBERT's authors' code.
    manifest
        Whose utterance ids labels get that don't hold them, for .units.
    sample_rate
        Hz in which a manifest counts, where it doesn't say; 16000 by default.
    overwrite
        Replace the target if it is there.
    """
    if to is None:
        for name, value in (("--waveform-normalization", waveform_normalization), ("--mean-std", mean_std)):
            if value is not None:
                raise InputError(f"{name} is for encoders: give --to, too")
        if is_encoder(source):
            raise InputError(
                f"{source} is an encoder: say with --to in which layout {target} is to be, such as --to transformers"
            )
        print(f"{target}: {convert_file(Path(source), target, manifest, sample_rate, overwrite)}")
        return
    if manifest is not None or sample_rate is not None:
        raise InputError("--manifest and --sample-rate are for labels and manifests: leave them out with --to")
    print(f"{target}: {convert_encoder(source, target, to, waveform_normalization, mean_std, overwrite)}")

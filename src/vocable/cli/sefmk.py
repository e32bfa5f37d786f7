"""`vocable sefmk …`: the commands of SEF-MK's authors, argument for argument."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.cli.tables import report_skipped
from vocable.errors import InputError
from vocable.features.encoder_layer import EncoderFile

_LAYER = 6
_WAVLM, _MODEL = "./ckpt/WavLM-Large.pt", Path("ckpt/librispeech_conformer_e_50.pth")
Devices = Annotated[list[str], Parameter(consume_multiple=True)]


def inference_audio_multi_kmeans(
    *,
    kmeans_scp: Path,
    audio_scp: Path,
    output_dir: Path,
    kmeans_num: int | None = None,
    wavlm_ckpt: str = _WAVLM,
    ckpt: Path = _MODEL,
    num_proc: int | None = None,
    gpus: Devices | None = None,
    overwrite: bool = False,
) -> None:
    """Convert the files of a list, each with one of many codebooks, as the authors' plan has it.

    The plan follows from the lists alone (a seed that everybody knows); 'vocable anonymize convert' draws with a key instead.

    Parameters
    ----------
    kmeans_scp
        A list of codebooks: a name and a path on each line, or a path alone. Joblib's files are read, and none of them is run.
    audio_scp
        A list of audio files: a name and a path on each line, or a path alone.
    output_dir
        Folder for the .wav files, of 16 bits at the vocoder's rate, and for the codebooks in one file.
    kmeans_num
        Draw from so many of the codebooks.
    wavlm_ckpt
        WavLM-Large's checkpoint, whose layer 6 the codebooks are of.
    ckpt
        The Conformer's checkpoint, with its vocoder.
    num_proc
        Worker processes.
    gpus
        Devices, such as cuda:0 cuda:1; without a GPU cuda is the CPU. By default cuda:0.
    overwrite
        Replace speech of something else.
    """
    _convert(kmeans_scp, audio_scp, output_dir, kmeans_num, wavlm_ckpt, ckpt, num_proc, gpus, overwrite, "audio", 1)


def inference_audio_random_frame(
    *,
    kmeans_scp: Path,
    audio_scp: Path,
    output_dir: Path,
    stride: int = 1,
    kmeans_num: int | None = None,
    wavlm_ckpt: str = _WAVLM,
    ckpt: Path = _MODEL,
    num_proc: int | None = None,
    gpus: Devices | None = None,
    overwrite: bool = False,
) -> None:
    """Convert the files of a list, with a codebook drawn for every few frames.

    Draws follow from a key that is made for the run and kept nowhere; the authors' code draws afresh in each run, too.

    Parameters
    ----------
    kmeans_scp
        A list of codebooks: a name and a path on each line, or a path alone. Joblib's files are read, and none of them is run.
    audio_scp
        A list of audio files: a name and a path on each line, or a path alone.
    output_dir
        Folder for the .wav files, of 16 bits at the vocoder's rate, and for the codebooks in one file.
    stride
        Frames of 20 ms that go to one codebook.
    kmeans_num
        Draw from so many of the codebooks.
    wavlm_ckpt
        WavLM-Large's checkpoint, whose layer 6 the codebooks are of.
    ckpt
        The Conformer's checkpoint, with its vocoder.
    num_proc
        Worker processes.
    gpus
        Devices, such as cuda:0 cuda:1; without a GPU cuda is the CPU. By default cuda:0.
    overwrite
        Replace speech of something else.
    """
    _convert(kmeans_scp, audio_scp, output_dir, kmeans_num, wavlm_ckpt, ckpt, num_proc, gpus, overwrite, "frame", stride)


def _convert(
    kmeans_scp: Path,
    audio_scp: Path,
    output_dir: Path,
    kmeans_num: int | None,
    wavlm_ckpt: str,
    ckpt: Path,
    num_proc: int | None,
    gpus: Sequence[str] | None,
    overwrite: bool,
    per: Literal["audio", "frame"],
    stride: int,
) -> None:
    from vocable.execution.engine import Work
    from vocable.recipes.anonymization import Conversion, convert_speech
    from vocable.recipes.codebook_lists import listed_audio, listed_codebooks
    from vocable.recipes.corpus import CorpusSettings
    from vocable.recipes.fleet_fitting import imported_once
    from vocable.recipes.workplace import open_workplace

    if num_proc is not None and num_proc < 1:
        raise InputError(f"--num_proc {num_proc}: give 1 or more")
    devices = tuple(dict.fromkeys(map(_placed, gpus or ["cuda:0"])))
    listed = listed_codebooks(kmeans_scp)
    spec = EncoderFile(wavlm_ckpt, "none").spec(_LAYER)
    folder = open_workplace(output_dir)
    fleet = imported_once(listed, output_dir / "codebooks.safetensors", spec, overwrite)
    conversion = Conversion(
        codebooks=fleet, model=ckpt, encoder=wavlm_ckpt, per=per, stride=stride, used=kmeans_num,
        draw="reference" if per == "audio" else "keyed",
    )  # fmt: skip
    work = Work(workers=num_proc or len(devices), devices=devices)
    done = convert_speech(listed_audio(audio_scp, folder), output_dir, conversion, CorpusSettings(), work, overwrite=overwrite)
    print(f"{done.out}: {done.utterances:,} files{', done already' if done.was_done else ''}")
    report_skipped(done.skipped, done.record)


def _placed(device: str) -> str:
    """Return a device that is there: without a GPU the CPU takes its place."""
    import torch

    from vocable.execution.engine import check_device

    return "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else check_device(device)

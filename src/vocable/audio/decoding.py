"""Audio files to mono float32 waveforms at one sample rate."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from vocable.audio.containers import check_whole
from vocable.audio.faults import AudioFault
from vocable.audio.files import Sound, in_memory
from vocable.audio.mp3 import decode_mp3

Waveform = NDArray[np.float32]

LIBSNDFILE_EXTENSIONS = frozenset("wav flac ogg oga opus mp3 aif aiff aifc au sph w64 rf64 caf".split())  # noqa: SIM905
MEDIA_EXTENSIONS = frozenset("m4a mp4 aac webm mka mkv wma mov amr".split())  # noqa: SIM905
"""Read through PyAV, from the `media` extra."""

LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000
"""Sample rates in Hz that sound can have: a header that says less makes gigabytes of a small file when it is resampled."""

_ZIP_SLICE = re.compile(r"(?P<archive>.+\.zip):(?P<offset>[0-9]+):(?P<length>[0-9]+)", re.DOTALL)
_DIGITS = 19  # reach past the end of any file; more can't be asked of one
_OTHER_SOUNDS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
_OPENING = re.compile(r"Error opening \d+: ")
_PIECE = 1 << 20  # samples: a header that lies about the length must not decide how much memory is taken
_PLAUSIBLE_SAMPLES_PER_BYTE = 5000  # FLAC packs 65535 equal samples into 15 bytes; no format does better


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples `read_waveform` gives for `samples` at another rate: the nearest integer, half up."""
    return (2 * samples * to_rate + from_rate) // (2 * from_rate)


def read_waveform(path: str | Path, sample_rate: int = 16000, channel: int | None = None) -> Waveform:
    """Decode a file, or the part of a zip archive named `archive.zip:offset:length`.

    Channels are averaged, or one is taken (`channel`, from 1). Another sample rate is converted with soxr.

    Returns:
        Samples in [-1, 1], shape (samples,).

    Raises:
        AudioFault: unreadable, empty, vanished, silent, or not finite.
    """
    path = os.fspath(path)
    try:
        samples, rate = _decode(path)
        mono = _mono(samples, channel)
        _check_content(mono)
        if rate != sample_rate:
            mono = resample(mono, rate, sample_rate)
        return np.ascontiguousarray(mono)
    except AudioFault as fault:
        fault.path = path
        raise
    except MemoryError as error:
        lack = AudioFault("unreadable", "it takes more memory than there is: cut it into shorter files")
        lack.path = path
        raise lack from error


def waveform_pieces(path: str | Path, sample_rate: int = 16000, channel: int | None = None) -> Iterator[Waveform]:
    """Yield a file's waveform piece by piece; together they are what `read_waveform` returns.

    Sound that libsndfile reads, at this rate, is never in memory whole; other sound is.

    Raises:
        AudioFault: as `read_waveform` does; a file found silent or cut short at its end, when it is read to there.
    """
    path = os.fspath(path)
    if extension_of(path) in MEDIA_EXTENSIONS or _is_mp3(path) or count_samples(path)[1] != sample_rate:
        whole = read_waveform(path, sample_rate, channel)
        for first in range(0, len(whole), _PIECE):
            yield whole[first : first + _PIECE]
        return
    energy = 0.0
    try:
        for piece in _sound_pieces(path):
            mono = _mono(piece, channel)
            with np.errstate(over="ignore", invalid="ignore"):
                energy += float(np.dot(mono, mono))
            if not energy < np.inf:
                _check_content(mono)
            yield np.ascontiguousarray(mono)
        if not energy:
            raise AudioFault("silent", "every sample is zero")
    except AudioFault as fault:
        fault.path = path
        raise


def count_samples(path: str) -> tuple[int, int]:
    """Return the number of samples in a channel and the sample rate, without decoding where the header can be trusted.

    Raises:
        AudioFault: unreadable, empty or vanished.
    """
    if extension_of(path) not in MEDIA_EXTENSIONS and not _is_mp3(path):
        with _opened(path) as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(0)
            with _sound(path, source) as file:
                if 0 < file.frames <= _PLAUSIBLE_SAMPLES_PER_BYTE * size:
                    _check_rate(file.samplerate)
                    return file.frames, file.samplerate
    samples, rate = _decode(path)  # the header only estimates, or says nothing, or nonsense
    return len(samples), rate


def extension_of(path: str) -> str:
    """Return the lower-case extension without its dot; a zip slice has none."""
    return Path(path).suffix[1:].lower()


def resample(mono: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """Return a waveform at another rate, `resampled_length` samples long."""
    wanted = resampled_length(len(mono), from_rate, to_rate)
    out = soxr.resample(mono, from_rate, to_rate, quality="HQ")[:wanted]
    return np.pad(out, (0, wanted - len(out)))


def _mono(samples: NDArray[np.float32], channel: int | None) -> Waveform:
    """Return one channel, from 1, or the mean of all."""
    if channel is None:
        return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not 1 <= channel <= samples.shape[1]:
        raise AudioFault("unreadable", f"channel {channel} asked for, {samples.shape[1]} there")
    return samples[:, channel - 1]


def _sound(path: str, source: BinaryIO) -> Sound:
    check_whole(source)
    try:
        return Sound(source)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise _unreadable(path, error) from error


def _decode(path: str) -> tuple[NDArray[np.float32], int]:
    """Return samples of shape (samples, channels) and their rate."""
    if extension_of(path) in MEDIA_EXTENSIONS:
        samples, rate = _decode_media(path)
    elif _is_mp3(path):
        with _opened(path) as source:
            try:
                samples, rate = decode_mp3(source.read())
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise _unreadable(path, error) from error
    else:
        samples, rate = _decode_sound(path)
    if not len(samples):
        raise AudioFault("empty", "the file holds no samples")
    _check_rate(rate)
    return samples, rate


def _decode_sound(path: str) -> tuple[NDArray[np.float32], int]:
    with _opened(path) as source, _sound(path, source) as file:
        pieces = list(_read(path, file))
        samples = pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, np.empty((0, file.channels), dtype=np.float32)])
        return samples, file.samplerate


def _sound_pieces(path: str) -> Iterator[NDArray[np.float32]]:
    with _opened(path) as source, _sound(path, source) as file:
        yield from _read(path, file)


def _read(path: str, file: Sound) -> Iterator[NDArray[np.float32]]:
    """Yield an open file's samples, of shape (samples, channels), to its end."""
    promised = file.frames if 0 < file.frames < 1 << 62 else None
    size, found = min(_PIECE, promised or _PIECE), 0
    try:
        while len(piece := file.read(size, dtype="float32", always_2d=True)):
            found += len(piece)
            yield piece
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if promised is not None and found != promised:
        raise AudioFault("unreadable", f"the file is cut short: its header says {promised} samples, {found} are there")


def file_state(path: str) -> str:
    """Return size and times of a file (or of the archive a slice lies in), or "" if it isn't there.

    The last part, the time of the last change to the file's record, tells replaced and newly readable files too, but also
    changes with permissions and links.
    """
    slice_ = _ZIP_SLICE.fullmatch(path)
    try:
        status = os.stat(slice_["archive"] if slice_ else path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _is_mp3(path: str) -> bool:
    """Tell whether a file is MP3 by its name, and doesn't begin like another kind of sound."""
    if extension_of(path) != "mp3":
        return False
    with _opened(path) as source:
        return not source.read(4).startswith(_OTHER_SOUNDS)


def _opened(path: str) -> BinaryIO:
    """Open a file or a zip slice, unbuffered; opening here, not in libsndfile, takes any name the filesystem has."""
    slice_ = _ZIP_SLICE.fullmatch(path)
    name = slice_["archive"] if slice_ else path
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # a pipe would wait for a writer for ever
            raise AudioFault("unreadable", "it is not a regular file")
        file: BinaryIO = open(name, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError as error:
        broken = os.path.islink(name)
        raise AudioFault("vanished", "it is a link to a file that is not there" if broken else "the file is not there") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AudioFault("unreadable", f"can't be opened ({reason.lower()})") from error
    if slice_ is None:
        return file
    with file:
        size = os.fstat(file.fileno()).st_size
        offset, length = (int(slice_[part].lstrip("0")[:_DIGITS] or 0) for part in ("offset", "length"))
        if offset + length > size:
            detail = (
                f"its archive has {size} bytes, but the slice begins at {slice_['offset']:.24} and takes {slice_['length']:.24}"
            )
            raise AudioFault("unreadable", f"{detail}: make the manifest anew")
        file.seek(offset)
        return in_memory(file.read(length))


def _unreadable(path: str, error: Exception) -> AudioFault:
    if not _ZIP_SLICE.fullmatch(path) and Path(path).stat().st_size == 0:
        return AudioFault("empty", "the file has no bytes")
    # The message begins with the number of a descriptor, which differs from run to run.
    reason = _OPENING.sub("", str(error)).removeprefix("Error : ").strip().rstrip(".")
    return AudioFault("unreadable", f"can't be decoded ({reason or 'no format libsndfile knows'})")


def _decode_media(path: str) -> tuple[NDArray[np.float32], int]:
    try:
        import av
    except ImportError as error:
        reason = f".{extension_of(path)} files need the media extra: pip install 'vocable[media]'"
        raise AudioFault("unreadable", reason) from error
    # Decoded from the start: seeking in such files is not exact to the sample.
    try:
        with _opened(path) as source, av.open(source, "r") as container:
            if not container.streams.audio:
                raise AudioFault("unreadable", "the file has no audio stream")
            stream = container.streams.audio[0]
            pieces = [_planar(frame.to_ndarray()) for frame in container.decode(stream)]
            rate = stream.codec_context.sample_rate
            channels = stream.codec_context.channels
    except av.FFmpegError as error:
        raise AudioFault("unreadable", f"can't be decoded ({error.strerror})") from error
    if not pieces:
        return np.empty((0, 1), dtype=np.float32), rate
    samples = np.concatenate([piece if len(piece) == channels else piece.reshape(-1, channels).T for piece in pieces], axis=1)
    return np.ascontiguousarray(samples.T), rate


def _planar(piece: NDArray[Any]) -> NDArray[np.float32]:
    if np.issubdtype(piece.dtype, np.integer):
        return (piece.astype(np.float64) / 2.0 ** (8 * piece.dtype.itemsize - 1)).astype(np.float32)
    return piece.astype(np.float32)


def _check_rate(rate: int) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioFault(
            "unreadable", f"its header says {rate} Hz, which no sound has ({LOWEST_RATE} to {HIGHEST_RATE}): mend it"
        )


def _check_content(mono: Waveform) -> None:
    # A finite energy above zero proves every sample finite and some not zero, at a tenth of the cost of looking at each.
    with np.errstate(over="ignore", invalid="ignore"):
        if 0.0 < float(np.dot(mono, mono)) < np.inf:
            return
    if not np.isfinite(mono).all():
        raise AudioFault("not finite", f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite")
    if not mono.any():
        raise AudioFault("silent", "every sample is zero")

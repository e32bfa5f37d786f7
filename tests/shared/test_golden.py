"""Equal to the reference implementations, on their own outputs (issue 2, lines 4 and 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocable.features import FrameAppender, LogMel, Mfcc, StoredFrames
from vocable.features.store import length_file
from vocable.units import read_units, write_units

pytestmark = pytest.mark.shared


def test_mfcc_equals_fairseqs(shared: Path) -> None:
    extractor = Mfcc()
    golden = sorted((shared / "golden" / "mfcc").glob("*.npy"))
    assert len(golden) == 2
    for path in golden:
        (audio,) = (shared / "speech" / "librispeech" / "dev").rglob(f"{path.stem}.flac")
        frames, expected = extractor([soundfile.read(audio, dtype="float32")[0]])[0], np.load(path)
        assert frames.shape == expected.shape
        assert np.abs(frames - expected).max() <= 5e-3
        assert np.median(np.abs(frames - expected)) <= 1e-4


def test_log_mel_equals_melhuberts(shared: Path) -> None:
    golden = np.load(shared / "golden" / "melhubert" / "frontend.npz")
    for name, stem in (("utt0", "100-121669-0000"), ("utt1", "1001-134707-0000")):
        waveform = soundfile.read(shared / "golden" / "melhubert" / f"{stem}.flac", dtype="float32")[0]
        key = next(key for key in golden if key.endswith("fbank_raw") and key.split("/")[0] in (name, stem))
        assert np.abs(LogMel.preset(40)([waveform])[0] - golden[key]).max() <= 5e-4


def test_fairseqs_files_are_read_and_written_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "fairseq"
    store = StoredFrames(golden / "sample.base.L9.npy")
    assert (len(store), store.dim, store.lengths.tolist()) == (1, 768, [596])
    appender = FrameAppender(tmp_path / "x.npy", 768)
    appender.append(store[0])
    assert (tmp_path / "x.npy").read_bytes() == (golden / "sample.base.L9.npy").read_bytes()
    assert length_file(tmp_path / "x.npy").read_bytes() == (golden / "sample.base.L9.len").read_bytes()
    units = read_units(golden / "sample.base.L9.km500.km")
    assert units[0][:12].tolist() == [17, 17, 17, 17, 296, 296, 20, 20, 20, 461, 461, 20]
    write_units(tmp_path / "x.km", units)
    assert (tmp_path / "x.km").read_bytes() == (golden / "sample.base.L9.km500.km").read_bytes()


def test_golden_labels_fit_their_audio(shared: Path) -> None:
    from vocable.audio.manifest import Manifest, Utterance
    from vocable.features.store import read_lengths
    from vocable.units.preflight import check_labels
    from vocable.units.units import Survey

    golden = shared / "golden" / "fairseq"
    units = read_units(golden / "sample.base.L9.km500.km")
    manifest = Manifest.of([Utterance("a", "6313-76958-0021.flac", 190800)])
    lengths = read_lengths(golden / "sample.base.L9.len")
    notes = check_labels("sample.km", units.header, Survey.of(units), manifest, lengths=lengths, rate=50.0)
    assert notes == ["sample.km has no header of ours: checked by counts and lengths alone"]


@pytest.mark.slow
def test_frames_and_labels_are_bit_equal_alone_in_batches_and_at_any_workers_and_shards(shared: Path, tmp_path: Path) -> None:
    """Issue 2, line 6, on real speech."""
    from vocable.cli.main import run
    from vocable.clustering import read_codebook

    train = shared / "speech" / "librispeech" / "train"
    files = sorted(train.rglob("*.flac"))[:128]
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in files]
    extractor = Mfcc()
    alone = [extractor([waveform])[0] for waveform in waveforms]
    for size in (7, 64):
        batches = [frames for at in range(0, len(waveforms), size) for frames in extractor(waveforms[at : at + size])]
        assert all(np.array_equal(one, other) for one, other in zip(alone, batches, strict=True))
    assert run(["kmeans", str(train), "--out", str(tmp_path / "km.safetensors"), "--clusters", "100", "--fraction", "0.2"]) == 0
    book = read_codebook(tmp_path / "km.safetensors")
    labels = [book.assign(frames) for frames in alone]
    for size in (7, 64):
        for at in range(0, len(alone), size):
            together = book.assign(np.concatenate(alone[at : at + size]))
            assert np.array_equal(together, np.concatenate(labels[at : at + size]))
    written = []
    for options in (["--workers", "1"], ["--workers", "2"]):
        assert (
            run(
                [
                    "units",
                    str(train),
                    "--codebook",
                    str(tmp_path / "km.safetensors"),
                    "--out",
                    str(tmp_path / options[1]),
                    *options,
                ]
            )
            == 0
        )
        written.append((tmp_path / options[1] / "units.km").read_bytes())
    for nshard in (3, 7):
        for rank in range(nshard):
            shards = ["--nshard", str(nshard), "--rank", str(rank), "--workers", "1"]
            assert (
                run(
                    [
                        "units",
                        str(train),
                        "--codebook",
                        str(tmp_path / "km.safetensors"),
                        "--out",
                        str(tmp_path / f"s{nshard}"),
                        *shards,
                    ]
                )
                == 0
            )
        written.append((tmp_path / f"s{nshard}" / "units.km").read_bytes())
    assert len(set(written)) == 1
    lines = dict(zip((path.stem for path in sorted(train.rglob("*.flac"))), written[0].splitlines(), strict=True))
    for path, units in zip(files, labels, strict=True):
        assert lines[path.stem] == " ".join(map(str, units.tolist())).encode()

"""The Kaldi archives of MelHuBERT's authors, in all three forms of matrices, become frames and labels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.features.kaldi_archives import Entry, read_matrix, read_table
from vocable.recipes.feature_pairs import read_pairs

Cli = Callable[..., str]
CSV = "libri-360-data-cluster-pair.csv"


def _compressed(frames: NDArray[np.float32]) -> tuple[bytes, NDArray[np.float64]]:
    """Return a CM matrix of some frames, and what it stands for: percentiles of each column, and bytes between them."""
    least, span = float(frames.min()), float(frames.max() - frames.min())
    quantised = []
    for column in frames.T:
        points = np.percentile(column, [0, 25, 75, 100])
        codes = np.round((points - least) / span * 65535).astype(np.uint16)
        codes = np.maximum.accumulate(codes + np.arange(4, dtype=np.uint16))
        quantised.append(np.minimum(codes, 65535 - np.arange(4)[::-1]).astype(np.uint16))
    head = b"\0BCM " + struct.pack("<ffii", least, span, *frames.shape) + b"".join(item.tobytes() for item in quantised)
    body, stands = b"", np.empty(frames.shape)
    spread = np.float64(np.float32(span))
    for at, (column, codes) in enumerate(zip(frames.T, quantised, strict=True)):
        low, quarter, three, high = float(np.float32(least)) + spread * codes.astype(np.float64) / 65535
        levels = [low + (quarter - low) * code / 64 for code in range(65)]
        levels += [quarter + (three - quarter) * (code - 64) / 128 for code in range(65, 193)]
        levels += [three + (high - three) * (code - 192) / 63 for code in range(193, 256)]
        nearest = np.abs(column[:, None] - np.array(levels)).argmin(axis=1).astype(np.uint8)
        body += nearest.tobytes()
        stands[:, at] = np.array(levels)[nearest]
    return head + body, stands


def archives_of(folder: Path, kind: str) -> dict[str, tuple[NDArray[np.float64], list[int]]]:
    """Write the authors' archives of five utterances; return what they hold."""
    folder.mkdir()
    drawn = np.random.default_rng(5)
    held: dict[str, tuple[NDArray[np.float64], list[int]]] = {}
    ark, labels, features_scp, labels_scp = b"", b"", "", ""
    for number in range(5):
        key, frames = f"utt-{number}", drawn.normal(14, 4, (20 + 7 * number, 40)).astype(np.float32)
        units = drawn.integers(0, 16, len(frames)).tolist()
        sizes = b"\4" + struct.pack("<i", frames.shape[0]) + b"\4" + struct.pack("<i", frames.shape[1])
        matrix, stands = _compressed(frames)
        if kind != "CM":
            values = frames.astype("<f4" if kind == "FM" else "<f8")
            matrix, stands = b"\0B" + kind.encode() + b" " + sizes + values.tobytes(), frames.astype(np.float64)
        ark += f"{key} ".encode()
        features_scp += f"{key} /share/somewhere/feats.ark:{len(ark)}\n"
        ark += matrix
        labels += f"{key} ".encode()
        labels_scp += f"{key} /share/somewhere/train.bas:{len(labels)}\n"
        labels += (" ".join(map(str, units)) + "\n").encode()
        held[key] = (stands, units)
    (folder / "feats.ark").write_bytes(ark)
    (folder / "train.bas").write_bytes(labels)
    (folder / "train-clean-360.scp").write_text(features_scp)
    (folder / "train-clean-360-k16-e10.bas.scp").write_text(labels_scp)
    every = np.concatenate([frames for frames, _ in held.values()])
    lines = [str(every.sum(axis=0).tolist()), str((every**2).sum(axis=0).tolist()), str(len(every))]
    (folder / "train-clean-360.mean-var").write_text("\n".join(lines) + "\n")
    return held


@pytest.mark.parametrize("kind", ["FM", "DM", "CM"])
def test_kaldi_archives_become_pairs(tmp_path: Path, cli: Cli, kind: str) -> None:
    held = archives_of(tmp_path / "ark", kind)
    out = tmp_path / "out"
    said = cli("melhubert", "preprocess", tmp_path / "ark", out, "--dtype", "float64", "--clusters", 16, "--workers", 1)
    assert "5 utterances" in said
    every = np.concatenate([frames for frames, _ in held.values()])
    mean, std = every.mean(axis=0), every.std(axis=0)
    assert np.allclose(np.load(out / "mean-std.npy", allow_pickle=False), [mean, std], atol=1e-9)
    for key, (frames, units) in held.items():
        stored = np.load(out / "feature" / f"{key}.npy", allow_pickle=False)
        assert np.allclose(stored, (frames - mean) / std, atol=1e-6 if kind == "CM" else 1e-9)
        assert np.load(out / "cluster" / f"{key}.npy", allow_pickle=False).tolist() == units
    assert read_pairs([out / CSV], 40).lengths.tolist() == [20, 27, 34, 41, 48]
    assert "done already" in cli(
        "melhubert", "preprocess", tmp_path / "ark", out, "--dtype", "float64", "--clusters", 16, "--workers", 1
    )


@pytest.mark.parametrize("kind", ["FM", "CM"])
def test_archives_that_are_not_whole_are_refused(tmp_path: Path, cli: Cli, kind: str) -> None:
    archives_of(tmp_path / "ark", kind)
    table = read_table(tmp_path / "ark" / "train-clean-360.scp")
    whole = (tmp_path / "ark" / "feats.ark").read_bytes()
    for content, said in (
        (whole[:-5], "no whole matrix"),
        (whole[: table[-1].offset] + b"\0BXX " + whole[table[-1].offset + 5 :], "its kind is"),
        (whole[: table[-1].offset] + b"text" + whole[table[-1].offset + 4 :], "doesn't begin as a binary one"),
        (whole[: table[-1].offset + 5] + b"\xff" * 20 + whole[table[-1].offset + 25 :], "no whole matrix"),
    ):
        (tmp_path / "ark" / "feats.ark").write_bytes(content)
        with pytest.raises(InputError, match=said):
            read_matrix(table[-1])
        given = ("melhubert", "preprocess", tmp_path / "ark", tmp_path / "out", "--clusters", 16, "--workers", 1)
        assert "utt-4" in cli(*given, fails=True)
        assert not (tmp_path / "out" / CSV).exists()
    (tmp_path / "ark" / "train-clean-360.scp").write_text("no table\n")
    with pytest.raises(InputError, match="line 1"):
        read_table(tmp_path / "ark" / "train-clean-360.scp")
    with pytest.raises(InputError, match="beside their table"):
        read_matrix(Entry("a", tmp_path / "gone.ark", 0))


def test_labels_of_an_archive_have_to_be_its_frames(tmp_path: Path, cli: Cli) -> None:
    archives_of(tmp_path / "ark", "FM")
    labels = tmp_path / "ark" / "train.bas"
    labels.write_bytes(labels.read_bytes().replace(b"\n", b" 3 3 3\n", 1))
    table = (tmp_path / "ark" / "train-clean-360-k16-e10.bas.scp").read_text().splitlines()
    moved = [table[0], *(f"{line.rpartition(':')[0]}:{int(line.rpartition(':')[2]) + 6}" for line in table[1:])]
    (tmp_path / "ark" / "train-clean-360-k16-e10.bas.scp").write_text("\n".join(moved) + "\n")
    given = ("melhubert", "preprocess", tmp_path / "ark", tmp_path / "out", "--clusters", 16, "--workers", 1)
    assert "23 labels" in cli(*given, fails=True)
    (tmp_path / "ark" / "train-clean-360.mean-var").unlink()
    assert ".mean-var" in cli(*given, fails=True)


def test_archives_that_changed_are_read_again_and_nothing_leads_out(tmp_path: Path, cli: Cli) -> None:
    archives_of(tmp_path / "ark", "FM")
    out = tmp_path / "out"
    given = ("melhubert", "preprocess", tmp_path / "ark", out, "--clusters", 16, "--workers", 1)
    assert "--speakers: no effect here" in cli(*given, "--speakers", "{speaker}/*", fails=True)
    cli(*given)
    assert "other settings" in cli(*given[:4], "--clusters", 20, "--workers", 1, fails=True)
    ark = tmp_path / "ark" / "feats.ark"
    table = read_table(tmp_path / "ark" / "train-clean-360.scp")
    content = bytearray(ark.read_bytes())
    content[table[0].offset + 15 : table[0].offset + 19] = struct.pack("<f", 99.0)
    ark.write_bytes(bytes(content))
    assert "--overwrite" in cli(*given, fails=True)
    cli(*given, "--overwrite")
    mean, std = np.load(out / "mean-std.npy", allow_pickle=False)
    stored = np.load(out / "feature" / "utt-0.npy", allow_pickle=False)
    assert stored[0, 0] == pytest.approx((99.0 - mean[0]) / std[0], rel=1e-5)
    content[table[1].offset + 15 : table[1].offset + 19] = struct.pack("<f", float("nan"))
    ark.write_bytes(bytes(content))
    assert "utt-1 that are not finite" in cli(*given, "--overwrite", fails=True)
    scp = tmp_path / "ark" / "train-clean-360.scp"
    labels = tmp_path / "ark" / "train-clean-360-k16-e10.bas.scp"
    for path in (scp, labels):
        path.write_text(path.read_text().replace("utt-1 ", "../../escaped/utt-1 ").replace("utt-2 ", "utt-2\t"))
    content[table[1].offset + 15 : table[1].offset + 19] = struct.pack("<f", 1.0)
    ark.write_bytes(bytes(content))
    cli(*given, "--overwrite")
    assert {path.name for path in (out / "feature").glob("*.npy")} == {f"utt-{at}.npy" for at in range(5)}
    assert not list(tmp_path.rglob("escaped"))


def test_labels_of_20_ms_in_archives_count_no_frames(tmp_path: Path, cli: Cli) -> None:
    held = archives_of(tmp_path / "ark", "FM")
    folder, labels, scp = tmp_path / "ark", b"", ""
    for key, (_, units) in held.items():
        labels += f"{key} ".encode()
        scp += f"{key} x.bas:{len(labels)}\n"
        labels += (" ".join(map(str, units[::2])) + "\n").encode()
    (folder / "x.bas").write_bytes(labels)
    (folder / "train-clean-360-k16-e10.bas.scp").write_text(scp)
    cli("melhubert", "preprocess", folder, tmp_path / "out", "--clusters", 16, "--workers", 1)
    pairs = read_pairs([tmp_path / "out" / CSV], 40)
    assert (pairs.rate, pairs.lengths.tolist()) == (50.0, [20, 27, 34, 41, 48])
    assert not pairs.notes

"""Labels from FLAC files made of public pieces, a process for each step, as it is done without vocable.

    python benchmarks/public_pieces.py manifest AUDIO OUT
    python benchmarks/public_pieces.py features OUT SHARDS SHARD
    python benchmarks/public_pieces.py kmeans OUT SHARDS CLUSTERS SEED
    python benchmarks/public_pieces.py labels OUT SHARDS SHARD

The steps and their files are those of fairseq's simple_kmeans. Cepstra are librosa's, which is faster than torchaudio's Kaldi
functions that fairseq calls; an utterance at a time, as there. No step writes more, or checks more, than the next one needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE, WINDOW, HOP, POINTS = 16000, 400, 160, 512


def manifest(audio: str, out: str) -> None:
    """Write the root, then the path and the samples of each file."""
    import soundfile

    paths = sorted(Path(audio).rglob("*.flac"))
    rows = [f"{path.relative_to(audio)}\t{soundfile.info(path).frames}" for path in paths]
    (Path(out) / "train.tsv").write_text("\n".join([audio, *rows]) + "\n")


def features(out: str, shards: str, shard: str) -> None:
    """Write MFCCs with deltas of a shard's files, and how many frames each has."""
    import librosa
    import soundfile

    root, *rows = (Path(out) / "train.tsv").read_text().splitlines()
    share = len(rows) / int(shards)
    tables = []
    for row in rows[round(share * int(shard)) : round(share * (int(shard) + 1))]:
        waveform, _ = soundfile.read(Path(root) / row.split("\t")[0], dtype="float32")
        static = librosa.feature.mfcc(
            y=waveform, sr=RATE, n_mfcc=13, n_mels=23, lifter=22, n_fft=POINTS, win_length=WINDOW, hop_length=HOP, center=False,
            fmin=20.0, htk=True,
        )  # fmt: skip
        deltas = [librosa.feature.delta(static, width=5, order=order) for order in (1, 2)]
        tables.append(np.concatenate([static, *deltas]).T)
    stem = _stem(out, shards, shard)
    np.save(f"{stem}.npy", np.concatenate(tables))
    Path(f"{stem}.len").write_text("".join(f"{len(table)}\n" for table in tables))


def kmeans(out: str, shards: str, clusters: str, seed: str) -> None:
    """Fit MiniBatchKMeans with fairseq's settings to all frames, and say its inertia."""
    import joblib
    from sklearn.cluster import MiniBatchKMeans

    frames = np.concatenate([np.load(f"{_stem(out, shards, shard)}.npy", mmap_mode="r") for shard in range(int(shards))])
    model = MiniBatchKMeans(
        int(clusters), init="k-means++", max_iter=100, batch_size=10000, tol=0.0, max_no_improvement=100, n_init=20,
        reassignment_ratio=0.0, compute_labels=False, random_state=int(seed),
    ).fit(frames)  # fmt: skip
    joblib.dump(model, f"{out}/km.bin")
    print("inertia a frame:", -model.score(frames) / len(frames))


def labels(out: str, shards: str, shard: str) -> None:
    """Write a line of labels for each utterance of a shard."""
    import joblib

    centroids = joblib.load(f"{out}/km.bin").cluster_centers_.T
    norms = (centroids**2).sum(0, keepdims=True)
    with Path(f"{_stem(out, shards, shard)}.km").open("w") as written:
        for frames in _utterances(_stem(out, shards, shard)):
            distances = (frames**2).sum(1, keepdims=True) - 2 * np.matmul(frames, centroids) + norms
            written.write(" ".join(map(str, distances.argmin(1).tolist())) + "\n")


def _utterances(stem: str) -> Iterator[np.ndarray]:
    frames, first = np.load(f"{stem}.npy", mmap_mode="r"), 0
    for line in Path(f"{stem}.len").read_text().splitlines():
        yield frames[first : first + int(line)]
        first += int(line)


def _stem(out: str, shards: str, shard: str | int) -> str:
    return f"{out}/train_{shard}_{shards}"


if __name__ == "__main__":
    step, *arguments = sys.argv[1:]
    {"manifest": manifest, "features": features, "kmeans": kmeans, "labels": labels}[step](*arguments)

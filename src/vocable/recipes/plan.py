"""What a preparation would take: hours, bytes, memory and time, from headers and a short measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.audio.blocks import blocks_of
from vocable.audio.faults import count_reasons
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import is_manifest, read_manifest
from vocable.audio.scan import complete, examine, find_audio, without_duplicates
from vocable.execution.engine import Work
from vocable.execution.progress import duration
from vocable.features.pipeline import FramePipeline
from vocable.recipes.codebooks import sampled_rows
from vocable.recipes.label_preparation import Preparation

_PROBE_SECONDS = 30.0  # of audio: a few hundredths of a second of work
_WORKER_BYTES = 150 << 20  # Python, NumPy and a block in flight
_FIT_OPERATIONS_PER_SECOND = 20e9  # multiplications of k-means on a core, over all its passes
_PASSES = 12


@dataclass(frozen=True)
class Plan:
    """An estimate."""

    utterances: int
    skipped: dict[str, int]
    seconds: float
    frames: int
    label_bytes: int
    memory: int
    time: float

    def rows(self) -> dict[str, Any]:
        """Return what to show: name → value."""
        return {
            "usable utterances": self.utterances,
            "left out by their headers": ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none",
            "hours of audio": self.seconds / 3600,
            "frames": self.frames,
            "bytes of labels": f"about {self.label_bytes / 1e6:,.1f} MB",
            "memory": f"about {self.memory / 2**30:.2f} GiB",
            "time": f"about {duration(self.time)}",
        }


def plan_preparation(source: Path, settings: Preparation, work: Work) -> Plan:
    """Estimate a preparation; nothing is written."""
    manifest, skipped = _listed(source, settings)
    spec = settings.frames.base(settings.corpus.sample_rate)
    pipeline = FramePipeline(spec, context=settings.frames.context)
    frames = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    fit_rows = sampled_rows(manifest, pipeline.spec, settings.fit) if len(manifest) else []
    fit_frames = sum(spec.frame_count(int(manifest.samples[row])) for row in fit_rows)
    passes_over_audio = 1 + fit_frames / max(frames, 1) + (settings.frames.normalize in ("corpus", "speaker"))
    rate = _measured_rate(manifest, pipeline)
    cores = min(work.workers, os.cpu_count() or 1)
    fitting = 2 * _PASSES * fit_frames * pipeline.spec.dim * settings.fit.clusters / _FIT_OPERATIONS_PER_SECOND
    digits = len(str(settings.fit.clusters - 1)) + 1
    return Plan(
        utterances=len(manifest),
        skipped=skipped,
        seconds=manifest.seconds,
        frames=frames,
        label_bytes=frames * digits,
        memory=work.workers * _WORKER_BYTES + 3 * 4 * fit_frames * pipeline.spec.dim,
        time=(passes_over_audio * manifest.seconds / rate + fitting) / cores,
    )


def _listed(source: Path, settings: Preparation) -> tuple[Manifest, dict[str, int]]:
    corpus = settings.corpus
    if is_manifest(source) and not source.is_dir():
        manifest = read_manifest(source, corpus.sample_rate)
        utterances, skipped = without_duplicates(complete(manifest, corpus.limits))
        root = manifest.root
    else:
        root = os.path.abspath(source)
        paths, closed = find_audio(source, corpus.ext)
        utterances, skipped = without_duplicates(examine(root, paths, corpus.sample_rate, corpus.limits))
        skipped += closed
    return Manifest.of(utterances, root, corpus.sample_rate), count_reasons(skipped)


def _measured_rate(manifest: Manifest, pipeline: FramePipeline) -> float:
    """Return seconds of audio that a core turns into frames in a second, from the first utterances."""
    run = pipeline.open("cpu")
    for block in blocks_of(manifest, _PROBE_SECONDS):
        run(block)  # the first run also loads what the second needs
        begun = time.perf_counter()
        run(block)
        return max(block.size, 1e-3) / max(time.perf_counter() - begun, 1e-6)
    return 1000.0

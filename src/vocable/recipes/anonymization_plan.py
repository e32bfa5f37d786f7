"""What anonymization would take: codebooks of speakers, and the conversion of audio."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from vocable.anonymization.anonymizer import Anonymizer
from vocable.audio.decoding import read_waveform
from vocable.audio.faults import AudioFault, count_reasons
from vocable.audio.manifest import Manifest
from vocable.clustering.fleets import read_fleet
from vocable.errors import InputError
from vocable.execution.engine import Work
from vocable.recipes.anonymization import Conversion, check_draw
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fleet_fitting import FleetFrames, FleetSettings, speaker_groups
from vocable.recipes.plan import OPERATIONS_PER_SECOND, PASSES, TORCH_BYTES, WORKER_BYTES, Plan, opened_alone, part_of
from vocable.recipes.plan import measured_rate as frames_rate

_PROBED_SECONDS = 15.0
_CEPSTRA_A_SECOND = 400.0  # seconds of audio that a core takes apart in a second


def plan_fleet(source: Path, settings: FleetSettings, corpus: CorpusSettings, frames: FleetFrames, work: Work) -> Plan:
    """Estimate the fits of a fleet's codebooks; nothing is written.

    Raises:
        InputError: what the fits themselves would refuse.
    """
    spec, clusters = frames.spec, frames.clusters(settings)
    opened = opened_alone(source, replace(corpus, sample_rate=spec.sample_rate), work)
    manifest = opened.manifest
    groups = speaker_groups(manifest, settings)
    counts = [sum(spec.frame_count(int(manifest.samples[row])) for row in rows) for _, _, rows in groups]
    rate = _CEPSTRA_A_SECOND if frames.encoder is None else frames_rate(manifest, frames.pipeline)
    fitting = PASSES * sum(counts) * spec.dim * clusters / OPERATIONS_PER_SECOND
    loaded = 0 if frames.encoder is None else TORCH_BYTES + 2 * frames.encoder.checkpoint().bytes
    return Plan(
        utterances=len(manifest),
        frames=sum(counts),
        written=len(groups) * clusters * spec.dim * (2 if settings.half else 4),
        memory=work.here * (WORKER_BYTES + loaded) + 3 * 4 * max(counts) * spec.dim,
        time=(manifest.seconds / rate + fitting) / work.here / work.nshard,
        seconds=manifest.seconds,
        skipped=count_reasons(opened.skipped),
        part=part_of(work),
    )


def plan_conversion(source: Path, conversion: Conversion, corpus: CorpusSettings, work: Work) -> Plan:
    """Estimate a conversion, from the first utterance that can be read; nothing is written.

    Raises:
        InputError: what the conversion itself would refuse.
    """
    fleet = read_fleet(conversion.codebooks)
    check_draw(conversion, fleet)
    anonymizer = Anonymizer(fleet, conversion.model, encoder=conversion.encoder, vocoder=conversion.vocoder)
    spec = anonymizer.voice.spec
    opened = opened_alone(source, replace(corpus, sample_rate=spec.sample_rate), work)
    manifest = opened.manifest
    if conversion.own_left_out and any(item.speaker is None for item in manifest):
        raise InputError("who speaks isn't known, so own codebooks can't be left out: give --speakers")
    files = [item for item in (conversion.model, conversion.vocoder) if item is not None]
    loaded = TORCH_BYTES + 3 * sum(item.stat().st_size for item in files) if files else 0
    return Plan(
        utterances=len(manifest),
        frames=sum(-(-count // spec.hop) for count in manifest.samples.tolist()),
        written=round(2 * manifest.seconds * anonymizer.voice.sample_rate),
        memory=work.here * (WORKER_BYTES + loaded),
        time=manifest.seconds / _measured_rate(manifest, anonymizer) / work.here / work.nshard,
        seconds=manifest.seconds,
        skipped=count_reasons(opened.skipped),
        part=part_of(work),
    )


def _measured_rate(manifest: Manifest, anonymizer: Anonymizer) -> float:
    """Return seconds of audio that a worker converts in a second."""
    for utterance in manifest:
        try:
            waveform = read_waveform(manifest.where(utterance), manifest.sample_rate, utterance.channel)
            waveform = waveform[: int(_PROBED_SECONDS * manifest.sample_rate)]
            anonymizer(waveform[: len(waveform) // 4], "")  # the first run also loads what the second needs
            begun = time.perf_counter()
            anonymizer(waveform, "")
        except AudioFault:
            continue
        return max(len(waveform) / manifest.sample_rate, 1e-3) / max(time.perf_counter() - begun, 1e-6)
    return 1.0

"""Any file of ours, or of those who came before, described in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import read_header
from vocable.artefacts.tensors import is_safetensors, read_tensors_header
from vocable.audio.blocks import blocks_of
from vocable.audio.faults import count_reasons, read_skipped
from vocable.audio.manifest_files import is_manifest, read_manifest
from vocable.checkpoints.layouts import DETOKENIZER, folder_layout, hub_name
from vocable.checkpoints.torch_magic import is_torch_file
from vocable.clustering.codebook import FORMAT as CODEBOOK
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.clustering.fleets import FORMAT as FLEET
from vocable.clustering.fleets import Fleet, read_fleet
from vocable.errors import InputError, VocableError
from vocable.features.store import StoredFrames, length_file
from vocable.report.encoder_description import encoder_rows
from vocable.units.dictionary import read_dictionary
from vocable.units.label_files import SUFFIXES, header_file, open_units
from vocable.units.pitch_labels import read_pitch_labels
from vocable.units.speaker_labels import DICTIONARY as SPEAKERS
from vocable.units.speaker_labels import read_speaker_dictionary, read_speaker_labels
from vocable.units.units import Survey, UnitsHeader
from vocable.units.usage import usage_scores

_OURS = {*SUFFIXES, ".safetensors", ".npy", ".len"}
_RUN_LOG = re.compile(r"run-\d+\.jsonl")


@dataclass(frozen=True)
class Description:
    """What a file is, and what it holds, name by name."""

    what: str
    rows: dict[str, Any] = field(default_factory=dict)
    parts: list[tuple[str, Description]] = field(default_factory=list)
    """For a folder: its files."""
    broken: str | None = None
    """What is wrong with a file that by its name is one of ours."""


def describe(path: Path) -> Description:
    """Describe a file or folder by its content.

    Raises:
        InputError: there is no such file, or nobody here knows what it is.
    """
    if path.is_dir():
        return encoder_description(path) if folder_layout(path) else _folder(path)
    if not path.exists() and not path.suffix and hub_name(path) is not None:
        return encoder_description(path)
    if not path.is_file():
        raise InputError(
            f"{path} doesn't exist: give a file, a folder, or the name of a model such as facebook/hubert-base-ls960"
        )
    return _describer(path)(path)


def _describer(path: Path) -> Callable[[Path], Description]:
    if path.suffix in SUFFIXES:
        return _labels
    if path.suffix in _SIDE_LABELS:
        return _SIDE_LABELS[path.suffix]
    if path.name == SPEAKERS:
        return _speaker_dictionary
    if path.name.startswith("dict.") and path.suffix == ".txt":
        return _dictionary
    if path.name.endswith("skipped.jsonl"):
        return _skipped
    if path.name == "run.jsonl" or _RUN_LOG.fullmatch(path.name):
        return _run_log
    if is_manifest(path):
        return _manifest
    if path.suffix == ".len":
        return lambda item: _frames(item.with_suffix(".npy"))
    if path.suffix == ".npy" and length_file(path).exists():
        return _frames
    if path.suffix == ".json":
        return _header_alone if path.with_suffix("").suffix in (*SUFFIXES, *_SIDE_LABELS) else _header
    if is_torch_file(path):
        return encoder_description
    return _tensors


def encoder_description(path: Path) -> Description:
    """Describe the checkpoint of an encoder, or of a detokenizer."""
    try:
        what, rows = encoder_rows(path)
    except InputError:
        if path.is_file():
            with suppress(InputError):
                return _detokenizer(path)
        raise
    return Description(what, rows)


def _folder(path: Path) -> Description:
    parts = []
    for item in sorted(path.iterdir()):
        if item.is_file() and not item.name.startswith(".") and not _belongs_to_another(item):
            try:
                parts.append((item.name, describe(item)))
            except VocableError as error:
                broken = str(error) if item.suffix in _OURS else None
                parts.append((item.name, Description(f"not recognised ({error})", broken=broken)))
    if not parts:
        raise InputError(f"{path} holds no files to describe")
    return Description(f"a folder of {len(parts)} files", {}, parts)


def _belongs_to_another(path: Path) -> bool:
    """Tell whether a file is described with the one it lies beside."""
    kinds = (*SUFFIXES, *_SIDE_LABELS)
    labels = path.suffix == ".json" and path.with_suffix("").suffix in kinds and path.with_suffix("").exists()
    frames = path.suffix in (".len", ".json") and path.with_suffix(".npy").exists()
    means = path.name.endswith(_OF_SPEAKERS) and path.with_name(path.name.removesuffix(_OF_SPEAKERS) + ".npy").exists()
    segments = (path.parent / "segments.json").exists() and path.name.endswith(_OF_SEGMENTS)
    units = path.name.endswith(".jsonl") and path.with_suffix(".json").exists() and not path.name.endswith("skipped.jsonl")
    speech = (path.parent / "anonymized.json").exists() and path.name.endswith((".wav", ".draw.json", "report.html"))
    return labels or frames or means or segments or units or speech


_OF_SPEAKERS = ".speakers.safetensors"
_OF_SEGMENTS = ("_segments.txt", "_segmentfeature.npy", "_feature.npy", ".TextGrid", ".audacity.txt", "segments.jsonl")


def _labels(path: Path) -> Description:
    header, sequences = open_units(path)
    survey = Survey.of(sequences, header.clusters)
    usage = usage_scores(survey, header.clusters, header.rate)
    known = path.suffix == ".units" or header_file(path).exists()
    rows = {"utterances": len(survey.lengths), **usage.rows(), **_header_rows(header)}
    return Description("labels" if known else "labels without a header of ours (nothing tells their codebook or rate)", rows)


def _pitch(path: Path) -> Description:
    labels = read_pitch_labels(path)
    bins = labels.bins
    relative = " of pitch relative to each speaker's mean" if bins.norm == "speaker" else " of pitch"
    rows = {
        "utterances": len(labels),
        "frames": len(labels.values),
        "voiced": f"{100 * float((labels.values >= 0).mean()) if len(labels.values) else 0:.1f} %",
        "bins": f"{len(bins)}, {'equally frequent' if bins.mode == 'quantile' else 'equally wide'}",
        "from": f"{bins.floor:g} to {bins.ceiling:g} Hz",
    }
    return Description(f"labels{relative}", {**rows, **_header_rows(labels.header)})


def _speakers(path: Path) -> Description:
    labels = read_speaker_labels(path)
    rows = {"utterances": len(labels.ids), "speakers": len(labels.names), "of nobody knows whom": int((labels.ids < 0).sum())}
    return Description("labels of who speaks", {**rows, "manifest": _short(labels.header.manifest)})


def _speaker_dictionary(path: Path) -> Description:
    return Description("a dictionary of speakers", {"speakers": len(read_speaker_dictionary(path))})


_SIDE_LABELS = {".f0": _pitch, ".spk": _speakers}


def _header_rows(header: UnitsHeader) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "labels a second": header.rate,
        "codebook": _short(header.codebook),
        "manifest": _short(header.manifest),
    }
    if header.features:
        rows["frames are"] = spec_in_words(FeatureSpec.from_json({**header.features, "recorded": {}}))
    return rows


def _dictionary(path: Path) -> Description:
    symbols = read_dictionary(path)
    ordered = symbols == [str(unit) for unit in range(len(symbols))]
    padding = sum(symbol.startswith("madeupword") for symbol in symbols)
    order = (
        "0 … K - 1 in order"
        if ordered
        else "in another order" + (f", {padding} of them padding by fairseq's preprocess.py" if padding else "")
    )
    return Description("a fairseq dictionary", {"symbols": len(symbols), "they are": order})


def _skipped(path: Path) -> Description:
    items = read_skipped(path)
    return Description("utterances that were left out", {"number": len(items), **count_reasons(items)})


def _run_log(path: Path) -> Description:
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    starts = [event for event in events if event["event"] == "start"]
    seconds = sum(event.get("seconds", 0) for event in events)
    last = {"last command": " ".join(starts[-1]["command"]), "host": starts[-1]["host"]} if starts else {}
    return Description("a log of runs", {"runs": len(starts), "seconds in all": seconds, **last})


def _manifest(path: Path) -> Description:
    manifest = read_manifest(path)
    known = manifest.samples[manifest.samples >= 0] / manifest.sample_rate
    rows: dict[str, Any] = {"utterances": len(manifest), "root": manifest.root, "hours": manifest.seconds / 3600}
    if len(known):
        rows |= {
            "shortest": f"{known.min():.2f} s",
            "longest": f"{known.max():.2f} s",
            "blocks of work": sum(1 for _ in blocks_of(manifest)),
        }
    if len(known) < len(manifest):
        rows["lengths unknown"] = len(manifest) - len(known)
    if manifest.speakers:
        rows["speakers"] = len(set(manifest.speakers))
    return Description("a manifest", {**rows, "digest": _short(manifest.digest)})


def _frames(path: Path) -> Description:
    store = StoredFrames(path)
    rows: dict[str, Any] = {"utterances": len(store), "frames": len(store.array), "values in a frame": store.dim}
    beside = path.with_suffix(".json")
    if beside.exists():
        header = read_header(beside, "vocable.frames/1")
        rows |= {"frames are": spec_in_words(FeatureSpec.from_json(header["features"])), "manifest": _short(header["manifest"])}
    return Description("frames in fairseq's format", rows)


def _header_alone(path: Path) -> Description:
    return Description(f"the header of {path.stem}, which is not here: make it again, or remove the header", _header(path).rows)


def _header(path: Path) -> Description:
    header = read_header(path)
    return Description(str(header.pop("format", "a JSON file")), dict(_flattened(header)))


def _flattened(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _flattened(item, f"{prefix}{name} ")
        else:
            yield prefix + name, ", ".join(map(str, item)) if isinstance(item, list) else item


def _tensors(path: Path) -> Description:
    if is_safetensors(path):
        header = read_tensors_header(path)
        if header is None:
            return Description("a safetensors file that is not ours")
        if header.get("format") == FLEET:
            return _fleet(read_fleet(path))
        if header.get("format") == DETOKENIZER:
            return _detokenizer(path)
        if header.get("format") != CODEBOOK:
            return Description(str(header["format"]), {name: value for name, value in header.items() if name != "format"})
    return _codebook(read_codebook(path))


def _fleet(fleet: Fleet) -> Description:
    sizes = [fleet.clusters(number) for number in range(len(fleet))]
    speakers = {name for own in fleet.speakers for name in own}
    rows: dict[str, Any] = {
        "codebooks": len(fleet),
        "centroids of each": f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}",
        "values in a centroid": f"{fleet.dim} as {fleet.codebooks.dtype}",
        "frames are": spec_in_words(fleet.spec) if fleet.spec is not None else "unknown: imported centroids don't say",
        "speakers": len(speakers),
        "note": fleet.note or "none: nothing says what their speakers agreed to",
        "digest": _short(fleet.digest),
    }
    if len(fleet.groups) > 1:
        rows["products of"] = ", ".join(f"values {first} to {last - 1}" for first, last in fleet.groups)
    return Description("codebooks of speakers", rows)


def _detokenizer(path: Path) -> Description:
    from vocable.checkpoints.detokenizers import read_detokenizer

    found = read_detokenizer(path)
    rows: dict[str, Any] = {}
    if (conformer := found.conformer) is not None:
        rows["Conformer"] = f"{conformer.layers} layers of {conformer.dim} values, {conformer.heads} heads"
    if (vocoder := found.vocoder) is not None:
        rows["vocoder"] = f"HiFi-GAN, {vocoder.hop} samples for each frame of {vocoder.dim} values, at {vocoder.sample_rate} Hz"
    size = sum(tensor.numel() for tensor in found.tensors.values())
    if found.spec is not None:
        rows["frames are"] = spec_in_words(found.spec)
    what = "a vocoder" if found.conformer is None else "a detokenizer"
    return Description(what, {**rows, "parameters": f"{size / 1e6:,.1f} million", "digest": _short(found.digest)})


_FITTED = {"frames", "utterances", "inertia", "settings", "seeding", "passes"}


def _codebook(codebook: Codebook) -> Description:
    rows: dict[str, Any] = {
        "clusters": len(codebook),
        **({} if codebook.groups is None else {"in groups": codebook.n_groups}),
        "values in a centroid": codebook.centroids.shape[1],
        "frames are": spec_in_words(codebook.spec) if codebook.spec is not None else "unknown: imported centroids don't say",
    }
    if codebook.normalization.speakers:
        rows["speakers it knows"] = len(codebook.normalization.speakers)
    fit = codebook.fit
    if "imported" in fit:
        rows["imported from"] = fit["imported"]
    elif set(fit) >= _FITTED and set(fit["settings"]) >= {"algorithm", "seed"}:
        rows |= {
            "fitted to": f"{fit['frames']:,} frames of {fit['utterances']:,} utterances",
            "inertia a frame": fit["inertia"] / fit["frames"],
            "algorithm": f"{fit['settings']['algorithm']}, seeded by {fit['seeding']}, {fit['passes']} passes over all frames",
            "seed": fit["settings"]["seed"],
        }
        if fit.get("lost"):
            rows["utterances lost"] = f"{fit['lost']:,} whose worker process died: fit it again"
    norms = np.linalg.norm(codebook.centroids, axis=1)
    return Description(
        "a codebook", {**rows, "centroid norms": f"{norms.min():.3g} to {norms.max():.3g}", "digest": _short(codebook.digest)}
    )


def spec_in_words(spec: FeatureSpec) -> str:
    """Return such as "mfcc, 39 values every 10 ms, normalised per speaker, 4 neighbours on each side"."""
    words = [f"{spec.kind}, {spec.dim} values every {1000 * spec.hop / spec.sample_rate:g} ms at {spec.sample_rate} Hz"]
    if spec.parameters.get("pooling") == "segments":
        words[0] = f"segments of {spec.kind} frames, {spec.dim} values each, of audio at {spec.sample_rate} Hz"
    if spec.layer is not None:
        words.append(f"layer {spec.layer}")
    if spec.frame_normalization != "none":
        scope, alone, _ = spec.frame_normalization.partition(":")[0].partition("-mean")
        words.append(f"without the mean of each {scope}" if alone else f"normalised per {scope}")
    if spec.context:
        words.append(f"{spec.context} neighbours on each side")
    return ", ".join(words)


def _short(digest: str | None) -> str | None:
    return None if digest is None else digest[:12]

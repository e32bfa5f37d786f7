"""Manifests and labels to train on, looked over before any time is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vocable.artefacts.headers import digest_of_array
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.errors import InputError, MismatchError
from vocable.models.config import EncoderConfig
from vocable.pretraining.labelled_audio import LabelSet, usable_frames
from vocable.recipes.hubert_settings import DataSettings
from vocable.units.dictionary import read_dictionary
from vocable.units.label_files import read_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey
from vocable.units.usage import usage_scores

_FEWEST_EVENLY = 0.02
"""Of the units, that have to be as many as equally frequent ones would be for labels to tell anything."""


@dataclass(frozen=True)
class Split:
    """A manifest with its labels."""

    name: str
    manifest: Manifest
    sets: tuple[LabelSet, ...]
    surveys: tuple[Survey, ...]
    """How labels of each set are used."""

    @property
    def identity(self) -> list[str]:
        """Digests of what it holds, and what its labels are taken for."""
        return [self.manifest.digest, *(f"{digest_of_array(item.units.values)} at {item.rate:g}" for item in self.sets)]


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, and is validated on."""

    train: Split
    valid: Split | None
    clusters: tuple[int, ...]
    """Labels there are, in each set."""
    notes: tuple[str, ...]
    """What could not be checked."""

    @classmethod
    def read(cls, settings: DataSettings, config: EncoderConfig) -> TrainingData:
        """Read and check manifests and labels.

        Raises:
            InputError: something is missing or broken, or all labels are alike.
            MismatchError: labels are of another manifest, rate or codebook, or a dictionary of another size.
        """
        if not settings.labels:
            raise InputError('data.labels names no label set: give their endings, such as ["km"]')
        notes: list[str] = []
        train = _split(settings, "train", settings.train, config, notes)
        valid = None if settings.valid is None else _split(settings, "valid", settings.valid, config, notes)
        if valid is not None:
            _check_one_codebook(settings, train, valid)
        clusters = tuple(
            _clusters(settings, number, [split.sets[number] for split in (train, valid) if split is not None])
            for number in range(len(settings.labels))
        )
        for name, survey, count in zip(settings.labels, train.surveys, clusters, strict=True):
            _check_entropy(f"{settings.train}.{name}", survey, count)
        return cls(train, valid, clusters, tuple(notes))


def _split(settings: DataSettings, part: str, name: str, config: EncoderConfig, notes: list[str]) -> Split:
    path = settings.folder / f"{name}.tsv"
    if not path.is_file():
        raise InputError(
            f"{path} isn't there: make it with 'vocable prepare', or say with data.folder and data.{part} where it is"
            f"{'; data.valid=null trains without' if part == 'valid' else ''}"
        )
    manifest = read_manifest(path, config.sample_rate)
    if (manifest.samples < 0).any():
        raise InputError(f"{path} doesn't give all lengths, which batches are made by: make it anew with 'vocable manifest'")
    folder = settings.label_folder or settings.folder
    sets, surveys = [], []
    for ending in settings.labels:
        labels = next((item for item in (folder / f"{name}.{ending}", folder / f"{name}.{ending}.km") if item.is_file()), None)
        if labels is None:
            raise InputError(f"{folder / name}.{ending} isn't there: make labels with 'vocable prepare' or 'vocable units'")
        units = read_units(labels)
        rate = settings.label_rate or units.header.rate
        if rate is None:
            raise InputError(
                f"{labels} doesn't say its rate: give data.label_rate, such as 100 for MFCC or 50 for layers of HuBERT"
            )
        dictionary = folder / f"dict.{ending}.txt"
        survey = Survey.of(units, units.header.clusters)
        notes += check_labels(
            labels.name, units.header, survey, manifest, dictionary if dictionary.is_file() else None, rate=rate
        )
        sets.append(LabelSet(units, rate))
        surveys.append(survey)
    _check_lengths(path, manifest, tuple(sets), config)
    return Split(name, manifest, tuple(sets), tuple(surveys))


def _check_lengths(path: Path, manifest: Manifest, sets: tuple[LabelSet, ...], config: EncoderConfig) -> None:
    """Refuse labels that last clearly shorter or longer than the audio; a frame or two at the end is usual."""
    for row, samples in enumerate(manifest.samples.tolist()):
        for item in sets:
            lasting, labelled = samples / manifest.sample_rate, int(item.units.lengths[row]) / item.rate
            if abs(lasting - labelled) > _SPARE_SECONDS:
                raise MismatchError(
                    f"row {row + 1} of {path} lasts {lasting:.2f} s, but its {item.units.lengths[row]} labels at {item.rate:g} a "
                    f"second last {labelled:.2f} s: give the data.label_rate of these labels, or label this audio"
                )
    if not len(manifest) or not usable_frames(manifest, sets, config).any():
        raise InputError(f"{path} has no utterance with a frame and a label: give another manifest")


_SPARE_SECONDS = 0.1  # fairseq's own, beyond which it warns


def _check_one_codebook(settings: DataSettings, train: Split, valid: Split) -> None:
    for name, one, other in zip(settings.labels, train.sets, valid.sets, strict=True):
        mine, theirs = one.units.header.codebook, other.units.header.codebook
        if mine is not None and theirs is not None and mine != theirs:
            raise MismatchError(
                f"{settings.valid}.{name} was made with another codebook than {settings.train}.{name}, so their units mean "
                "different things: label both with one codebook"
            )
        if one.rate != other.rate:
            raise MismatchError(
                f"{settings.valid}.{name} has {other.rate:g} labels a second, {settings.train}.{name} {one.rate:g}: "
                "make both at one rate"
            )


def _clusters(settings: DataSettings, number: int, sets: list[LabelSet]) -> int:
    """Return how many labels there are: as a codebook or a dictionary says, or as far as they go."""
    said = sets[0].units.header.clusters
    if said is not None:
        return said
    dictionary = (settings.label_folder or settings.folder) / f"dict.{settings.labels[number]}.txt"
    largest = max(int(item.units.values.max(initial=0)) for item in sets)
    if dictionary.is_file():
        return max(int(symbol) for symbol in read_dictionary(dictionary) if symbol.isdecimal()) + 1
    return largest + 1


def _check_entropy(name: str, survey: Survey, clusters: int) -> None:
    usage = usage_scores(survey, clusters)
    if usage.used < 2:
        raise InputError(f"{name} has one label for all frames, which can be learnt without listening: make labels again")
    if clusters >= 1 / _FEWEST_EVENLY and usage.perplexity < _FEWEST_EVENLY * clusters:
        raise InputError(
            f"{name}: {clusters} labels are used as unevenly as {usage.perplexity:.1f} equal ones would be (entropy "
            f"{math.log(usage.perplexity):.2f} nats of {math.log(clusters):.2f}): look at the audio and the codebook"
        )

"""Manifests and labels to train on, looked over before any time is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocable.artefacts.headers import digest_of_array
from vocable.audio.manifest_files import read_manifest
from vocable.checkpoints.melhubert_encoder import read_mean_std
from vocable.errors import InputError, MismatchError
from vocable.features.kaldi import Frames
from vocable.models.config import EncoderConfig
from vocable.pretraining.labelled_audio import LabelSet, usable_frames
from vocable.recipes.feature_pairs import MEAN_STD, FeaturePairs, read_pairs
from vocable.recipes.hubert_settings import DataSettings
from vocable.training.inputs import AudioInputs, Inputs, StoredInputs
from vocable.units.dictionary import read_dictionary
from vocable.units.label_files import read_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey
from vocable.units.usage import usage_scores

_FEWEST_EVENLY = 0.02
"""Of the units, that have to be as many as equally frequent ones would be for labels to tell anything."""


@dataclass(frozen=True)
class Split:
    """Utterances with their labels."""

    name: str
    inputs: Inputs
    sets: tuple[LabelSet, ...]
    surveys: tuple[Survey, ...]
    """How labels of each set are used."""

    @property
    def identity(self) -> list[str]:
        """Digests of what it holds, and what its labels are taken for."""
        return [self.inputs.digest, *(f"{digest_of_array(item.units.values)} at {item.rate:g}" for item in self.sets)]


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, and is validated on."""

    train: Split
    valid: Split | None
    clusters: tuple[int, ...]
    """Labels there are, in each set."""
    corpus: tuple[Frames, Frames] | None
    """Mean and deviation of log-mel bins, where the encoder's are those of a corpus."""
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
        corpus = _corpus(settings, config)
        if settings.sets:
            train = _stored(settings.sets, config, corpus, notes)
            valid = _stored(settings.valid_sets, config, corpus, notes) if settings.valid_sets else None
        else:
            train = _split(settings, "train", settings.train, config, corpus, notes)
            valid = None if settings.valid is None else _split(settings, "valid", settings.valid, config, corpus, notes)
        if valid is not None:
            _check_one_codebook(settings, train, valid)
        clusters = tuple(
            _clusters(settings, number, [split.sets[number] for split in (train, valid) if split is not None])
            for number in range(len(train.sets))
        )
        for name, survey, count in zip(settings.labels, train.surveys, clusters, strict=False):
            _check_entropy(f"{settings.train}.{name}" if not settings.sets else train.name, survey, count)
        return cls(train, valid, clusters, corpus, tuple(notes))


def _corpus(settings: DataSettings, config: EncoderConfig) -> tuple[Frames, Frames] | None:
    """Return what log-mel frames are normalised by, if that is a corpus's mean and deviation.

    Raises:
        InputError: there is no such file.
    """
    mel = config.mel
    if mel is None or mel.normalization != "corpus":
        if settings.mean_std is not None:
            raise InputError('data.mean_std goes with model.mel_normalization = "corpus": give both, or none')
        return None
    path = settings.mean_std or settings.place / MEAN_STD
    if not path.is_file():
        raise InputError(
            f"{path} isn't there, and the model takes out a corpus's mean: make it with 'vocable melhubert preprocess', say with "
            "data.mean_std where it is, or give model.mel_normalization=utterance"
        )
    return read_mean_std(path, mel.bins)


def _stored(files: Sequence[Path], config: EncoderConfig, corpus: tuple[Frames, Frames] | None, notes: list[str]) -> Split:
    """Return what CSVs of MelHuBERT's code list.

    Raises:
        InputError: the model takes no such frames.
    """
    mel = config.mel
    if mel is None:
        raise InputError(
            "data.sets are of log-mel frames, and the model takes waveforms: give model.input=logmel, or data.folder"
        )
    pairs = read_pairs(files, mel.bins)
    _check_made(files[0], pairs, config, corpus)
    notes += pairs.notes
    frame_rate = config.sample_rate / config.hop
    if pairs.rate < frame_rate:
        raise MismatchError(
            f"{files[0]} has labels every {1000 / pairs.rate:g} ms, and the model frames every {1000 / frame_rate:g} ms: "
            "give labels at the model's rate, or a model of model.mel_stacked=2"
        )
    inputs = StoredInputs(pairs.features, pairs.lengths, config, pairs.state)
    return Split(
        files[0].stem, inputs, (LabelSet(pairs.units, pairs.rate),), (Survey.of(pairs.units, pairs.units.header.clusters),)
    )


def _check_made(csv: Path, pairs: FeaturePairs, config: EncoderConfig, corpus: tuple[Frames, Frames] | None) -> None:
    """Refuse stored frames that the model would take for others, where vocable wrote beside them what they are.

    Raises:
        MismatchError: they are normalised otherwise, by other statistics, or of audio at another rate.
    """
    assert config.mel is not None
    mine = config.mel.normalization
    for header in pairs.made_by:
        theirs = header.get("normalize")
        if theirs is not None and (theirs == "corpus") != (mine == "corpus"):
            wanted = "corpus" if theirs == "corpus" else "utterance"
            raise MismatchError(
                f"{csv} has frames normalised per {theirs}, and the model's are normalised per {mine}: give "
                f"model.mel_normalization={wanted}, or preprocess the audio with --normalize {mine}"
            )
        if corpus is not None and header.get("mean_std") not in (None, digest_of_array(np.stack(corpus))):
            raise MismatchError(
                f"{csv} has frames normalised by other statistics than data.mean_std: give those written with them"
            )
        if header.get("sample_rate") not in (None, config.sample_rate):
            raise MismatchError(
                f"{csv} has frames of audio at {header['sample_rate']} Hz: the model's is at {config.sample_rate}"
            )


def _split(
    settings: DataSettings,
    part: str,
    name: str,
    config: EncoderConfig,
    corpus: tuple[Frames, Frames] | None,
    notes: list[str],
) -> Split:
    path = settings.place / f"{name}.tsv"
    if not path.is_file():
        raise InputError(
            f"{path} isn't there: make it with 'vocable prepare', or say with data.folder and data.{part} where it is"
            f"{'; data.valid=null trains without' if part == 'valid' else ''}"
        )
    manifest = read_manifest(path, config.sample_rate)
    if (manifest.samples < 0).any():
        raise InputError(f"{path} doesn't give all lengths, which batches are made by: make it anew with 'vocable manifest'")
    folder = settings.label_folder or settings.place
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
    inputs = AudioInputs(manifest, config, corpus)
    _check_lengths(path, inputs, tuple(sets))
    return Split(name, inputs, tuple(sets), tuple(surveys))


def _check_lengths(path: Path, inputs: AudioInputs, sets: tuple[LabelSet, ...]) -> None:
    """Refuse labels that last clearly shorter or longer than the audio; a frame or two at the end is usual."""
    manifest, config = inputs.manifest, inputs.config
    for row, samples in enumerate(manifest.samples.tolist()):
        for item in sets:
            lasting, labelled = samples / manifest.sample_rate, int(item.units.lengths[row]) / item.rate
            if abs(lasting - labelled) > _SPARE_SECONDS:
                raise MismatchError(
                    f"row {row + 1} of {path} lasts {lasting:.2f} s, but its {item.units.lengths[row]} labels at {item.rate:g} a "
                    f"second last {labelled:.2f} s: give the data.label_rate of these labels, or label this audio"
                )
    if not len(manifest) or not usable_frames(inputs, sets, config.sample_rate / config.hop).any():
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
    """Return how many labels there are: as the settings, a codebook or a dictionary say, or as far as they go.

    Raises:
        MismatchError: one goes further.
    """
    largest = max(int(item.units.values.max(initial=0)) for item in sets)
    said = settings.clusters or sets[0].units.header.clusters
    if said is not None:
        if largest >= said:
            raise MismatchError(
                f"there is label {largest}, where data.clusters or a codebook says {said}: give such as go together"
            )
        return said
    if settings.sets:
        return largest + 1
    dictionary = (settings.label_folder or settings.place) / f"dict.{settings.labels[number]}.txt"
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

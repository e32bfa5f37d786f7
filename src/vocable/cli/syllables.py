"""`vocable syllables segment|cluster|units|reference|triplets`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.cli.options import Audio, Names, Part, Running
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.errors import InputError
from vocable.execution.processor import available_cores
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.models.config import WaveformNormalization
from vocable.recipes.corpus import CorpusSettings
from vocable.syllables.settings import PRESETS, Method, Preset, SegmentSettings, Windows

_AUDIO = CorpusSettings(min_seconds=0.1)


@Parameter(name="*", group="How syllables are cut (by default as the preset says)")
@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How syllables are cut."""

    preset: Preset = "current"
    "current: as SD-HuBERT's code of December 2024; published: as for its published scores; sylber: greedily; zerosyl: by norms."
    method: Method | None = None
    "minimum-cut, greedy, or norm-peaks, which needs no training for it."
    layer: int | None = None
    "Whose frames are compared, and describe segments; from 1."
    windows: Windows | None = None
    "overlap-add: windows of 5 s that share half a second, in memory that doesn't grow with the length; or whole."
    norm_layer: int | None = None
    "Whose norms tell speech from silence, or boundaries."
    norm_strategy: Literal["relative", "absolute"] | None = None
    "Whether norms are scaled by an utterance's 1st and 99th percentile."
    norm_threshold: float | None = None
    "Above which a frame is speech."
    least_frames: int | None = None
    "Shorter stretches of speech are left out."
    silence_threshold: float | None = None
    "Stretches that are no louder on average, at variance 1, are left out."
    syllable_duration: float | None = None
    "Seconds, of minimum cut's pieces before any are merged."
    merge_threshold: float | None = None
    "Least cosine of neighbours that become one; of minimum cut and greedy."
    longest: int | None = None
    "Frames that minimum cut's pieces may have; by default any number. A line says where that may have changed the cut."
    smoothing: int | None = None
    "norm-peaks: frames of the moving average of norms."
    prominence: float | None = None
    "norm-peaks: by how much the norm of a boundary stands out."

    def settings(self) -> SegmentSettings:
        """Return the preset's settings, with what was given in their place.

        Raises:
            InputError: an option goes with another method.
        """
        made = PRESETS[self.preset]
        if self.method is not None:
            made = replace(made, method=self.method)
        if self.layer is not None:
            made = replace(made, layer=self.layer)
        if self.windows is not None:
            made = replace(made, windows=self.windows)
        self._check(made.method)
        voicing = {
            "layer": self.norm_layer, "strategy": self.norm_strategy, "threshold": self.norm_threshold,
            "least_frames": self.least_frames, "silence": self.silence_threshold,
        }  # fmt: skip
        cut = {"syllable_seconds": self.syllable_duration, "merge_threshold": self.merge_threshold, "longest": self.longest}
        peaks = {"smoothing": self.smoothing, "prominence": self.prominence}
        made = replace(made, voicing=replace(made.voicing, **_given(voicing)))
        if made.method == "minimum-cut":
            return replace(made, minimum_cut=replace(made.minimum_cut, **_given(cut)))
        if made.method == "greedy":
            return replace(made, greedy=replace(made.greedy, **_given({"merge_threshold": self.merge_threshold})))
        return replace(made, norm_peaks=replace(made.norm_peaks, **_given(peaks)))

    def _check(self, method: Method) -> None:
        """Refuse options of another method."""
        allowed = {
            "minimum-cut": _VOICING | {"syllable_duration", "merge_threshold", "longest"},
            "greedy": _VOICING | {"merge_threshold"},
            "norm-peaks": {"norm_layer", "smoothing", "prominence"},
        }[method]
        for item in fields(self):
            if item.name in _OF_METHODS - allowed and getattr(self, item.name) is not None:
                raise InputError(f"--{item.name.replace('_', '-')} has no meaning for {method}: leave it out")


_VOICING = {"norm_layer", "norm_strategy", "norm_threshold", "least_frames", "silence_threshold"}
_OF_METHODS = _VOICING | {"syllable_duration", "merge_threshold", "longest", "smoothing", "prominence"}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def segment(
    first: Path,
    /,
    *more: Path,
    encoder: str,
    out: Path,
    form: Names = ("txt", "features"),
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    precision: Precision = "float32",
    waveform_normalization: WaveformNormalization | None = None,
    mean_std: Path | None = None,
    cutting: Cutting = Cutting(),
    audio: Audio = _AUDIO,
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Cut audio into syllables, with what describes each.

    Parameters
    ----------
    first
        An audio file, a folder of audio, or a manifest.
    more
        More of them.
    encoder
        A checkpoint of SD-HuBERT, in any layout, or for norm-peaks of any encoder: a file, a folder, or a name on the Hub.
    out
        Folder for UTTERANCE_segments.txt and so on, segments.json, which says what they are, and skipped.jsonl.
    form
        What is written, apart by commas: txt (a line 'start, end' for each segment), features (_segmentfeature.npy, a row for
        each), frames (_feature.npy, all frames), textgrid (for Praat), audacity (a label track), jsonl (one file for all).
    strict
        Make any unusable file an error.
    overwrite
        Replace segments of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    precision
        bfloat16 is faster where the device is; auto takes it there.
    waveform_normalization
        In place of what the checkpoint says.
    mean_std
        The .npy of mean and deviation that goes with a checkpoint of MelHuBERT's authors' code.
    """
    from vocable.recipes.sources import opened_sources
    from vocable.recipes.syllable_segments import SyllableJob, cut_syllables

    work = running.work(part.nshard, part.rank)
    file = EncoderFile(encoder, waveform_normalization, resolved_precision(precision, work.devices[0]), mean_std)
    job = SyllableJob(encoder=file, segment=cutting.settings(), corpus=audio, forms=tuple(form))
    if audio.sample_rate != job.spec.sample_rate and spelled(["sample_rate"]):
        raise InputError(f"--sample-rate {audio.sample_rate}: the encoder takes audio at {job.spec.sample_rate} Hz; leave it out")
    with opened_sources([first, *more], out, audio, kept=not dry_run) as source:
        if dry_run:
            from vocable.recipes.plan import plan_syllables

            print_table(f"{first} would be cut into {out}", plan_syllables(source, job, work).rows())
            return
        made = cut_syllables(source, out, job, work, strict, overwrite)
    if made.missing:
        report_others(made.missing, "segments.json")
        return
    done = ", done already" if made.was_done else ""
    rate = f", {made.segments / made.seconds:.2f} a second" if made.seconds else ""
    print(f"{made.out}: {made.utterances:,} utterances, {made.segments:,} segments{rate}{done}")
    if made.bounded:
        print(f"--longest {cutting.longest} was reached in {made.bounded:,} stretches, which might be cut otherwise without it")
    report_skipped(made.skipped, made.record)


def cluster(
    segments: Path,
    /,
    *,
    out: Path,
    n_clusters: int = 16384,
    n_clusters_agglomerative: int = 4096,
    algorithm: Literal["lloyd", "minibatch"] = "lloyd",
    n_init: int | None = None,
    max_iter: int = 100,
    seed: int = 0,
    files: Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Fit a codebook of two levels to segments: k-means, and Ward's linkage of its centroids.

    Parameters
    ----------
    segments
        A folder that 'vocable syllables segment' wrote, or SD-HuBERT's code.
    out
        The codebook, a .safetensors file with both levels.
    n_clusters
        Centroids of k-means.
    n_clusters_agglomerative
        Units that these are put together to; 0 for one level.
    algorithm
        lloyd: on growing samples, then all segments; minibatch: scikit-learn's, with the settings of SD-HuBERT's code.
    n_init
        Starts, of which the best is kept; by default 1 for lloyd and 5 for minibatch.
    max_iter
        Passes over all segments at most.
    seed
        The same seed gives the same codebook.
    files
        A list of the utterances to fit to, one a line, such as SD-HuBERT's librispeech_train_10Ksubset.txt.
    workers
        Threads; by default one for each core.
    overwrite
        Replace a codebook of something else.
    """
    from vocable.recipes.syllable_clusters import TwoLevels, cluster_segments, names_listed

    groups = n_clusters_agglomerative or None
    settings = TwoLevels(clusters=n_clusters, groups=groups, algorithm=algorithm, n_init=n_init, max_iter=max_iter, seed=seed)
    names = None if files is None else names_listed(files, segments)
    made, was_done = cluster_segments(segments, out, settings, names, workers or available_cores(), overwrite)
    levels = f"{len(made):,} clusters" + ("" if made.groups is None else f" in {made.n_groups:,} groups")
    print(f"{out}: {levels}, of {made.fit.get('frames', 0):,} segments{', done already' if was_done else ''}")


def units(
    segments: Path,
    /,
    *,
    codebook: Path,
    out: Path,
    reducer: Path | None = None,
    level: Literal["coarse", "fine"] = "coarse",
    name: str = "units",
    form: Names = ("jsonl",),
    overwrite: bool = False,
) -> None:
    """Write the units of segments, with their times.

    Parameters
    ----------
    segments
        A folder that 'vocable syllables segment' wrote, or SD-HuBERT's code.
    codebook
        Made by 'vocable syllables cluster'; or a k-means of SD-HuBERT's code.
    out
        Folder for NAME.jsonl and so on.
    reducer
        The .npy of groups that goes with a k-means of SD-HuBERT's code.
    level
        coarse: the groups; fine: the clusters.
    name
        What the files are called.
    form
        Apart by commas: jsonl (a line for each utterance: id, units, starts, ends), km (units, a line for each; their ids in
        NAME.ids), rttm, textgrid and audacity (a file for each utterance).
    overwrite
        Replace units of something else.
    """
    from vocable.clustering.codebook import read_codebook
    from vocable.recipes.syllable_clusters import with_groups
    from vocable.recipes.syllable_units import write_units

    book = with_groups(read_codebook(codebook), reducer)
    made = write_units(segments, book, out, level, name, tuple(form), overwrite)
    done = ", done already" if made.was_done else ""
    print(f"{made.files[-1]}: {made.utterances:,} utterances, {made.units:,} units{done}")


def reference(
    alignments: Path,
    /,
    *,
    out: Path,
    phonology: Path | None = None,
    words: str = "word",
    tier: str | None = None,
    json_: Annotated[Path | None, Parameter(name=["--json"])] = None,
    ext: str = "flac",
    overwrite: bool = False,
) -> None:
    """Make syllables of aligned phones: as many consonants as a syllable can begin with go to the next one.

    Parameters
    ----------
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid with phones.
    out
        Folder for UTTERANCE.tsv: start, end, syllable.
    phonology
        What makes syllables of a language's phones: lines 'vowels AA AE …' and 'onsets B, S T R, …'; by default English.
    words
        Column, or tier, that says in which word a phone is; '' where there is none: words then end at silences alone.
    tier
        Tier, or column, of the phones; by default phones, or the third column.
    json_
        A file for all of them in the form of SD-HuBERT's authors.
    ext
        With --json: ending of the audio files.
    overwrite
        Replace tables and a file that are there.
    """
    from vocable.artefacts.writing import write_text
    from vocable.recipes.syllable_references import made_references, references_json, write_references
    from vocable.syllables.syllabification import Phonology

    if out.resolve() == alignments.resolve():
        raise InputError(f"--out {out}: syllables would take the place of the phones they are made of; give another folder")
    if json_ is not None and json_.resolve() == out.resolve():
        raise InputError(f"--json {json_} and --out are one: give the file another name")
    _refuse_standing(json_, overwrite)
    made = list(made_references(alignments, Phonology.read(phonology), words or None, tier))
    write_references(made, out, overwrite)
    count = sum(len(timeline) for _, timeline in made)
    print(f"{out}: {count:,} syllables of {len(made):,} utterances")
    if json_ is not None:
        write_text(json_, references_json(made, ext))
        print(json_)


def triplets(
    source: Path,
    /,
    *,
    alignments: Path,
    out: Path,
    tier: str = "word",
    fewest_words: int = 5,
    most_words: int = 14,
    negatives: int = 10,
    seed: int = 0,
    overwrite: bool = False,
    audio: Audio = CorpusSettings(),
) -> None:
    """Make triplets of sentence ABX: clips of two speakers who say the same words, and one of another that says others.

    Parameters
    ----------
    source
        A folder of audio, or a manifest; --speakers says who speaks.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid that has words, or phones with their words.
    out
        A JSON file in the form of SD-HuBERT's ssabx.json; files in it are named from the source's folder on.
    tier
        Tier, or column, of the words.
    fewest_words
        Of a clip.
    most_words
        Of a clip.
    negatives
        Triplets of two clips with the same words, at most.
    seed
        Of the draw among clips that share as many words.
    overwrite
        Replace a file that is there.
    """
    from vocable.artefacts.writing import write_text
    from vocable.evaluation.ssabx import clips_of, triplets_json
    from vocable.evaluation.ssabx_triplets import TripletSettings
    from vocable.recipes.sentence_abx import make_triplets, manifest_of

    _refuse_standing(out, overwrite)
    settings = TripletSettings(fewest=fewest_words, most=most_words, negatives=negatives, seed=seed)
    made, utterances = make_triplets(manifest_of(source, audio), alignments, tier, settings)
    write_text(out, triplets_json(made))
    pairs = len({(item.x, item.positive) for item in made})
    print(f"{out}: {len(made):,} triplets of {pairs:,} pairs, {len(clips_of(made)):,} clips of {utterances:,} utterances")


def _refuse_standing(path: Path | None, overwrite: bool) -> None:
    if path is not None and path.exists() and not overwrite:
        raise InputError(f"{path} is there already: give another file, or --overwrite")

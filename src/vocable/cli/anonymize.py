"""`vocable anonymize fit-codebooks|import-codebooks|convert|voiceprivacy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.cli.options import Audio, Part, Running
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.cli.voice_options import Voices
from vocable.cli.voiceprivacy import voiceprivacy
from vocable.errors import InputError
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.models.config import WaveformNormalization
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fleet_fitting import FleetFrames, FleetSettings, check_name, speakers_in_each

__all__ = ["convert", "fit_codebooks", "import_codebooks", "voiceprivacy"]

Speakers = Annotated[str, Parameter(name=["--speakers-per-codebook"])]


def fit_codebooks(
    source: Path,
    /,
    *,
    out: Path,
    encoder: str | None = None,
    layer: int | None = None,
    clusters: int | None = None,
    speakers_per_codebook: Speakers = "1",
    grouping: Literal["sorted", "random"] = "sorted",
    dtype: Literal["float32", "float16"] = "float32",
    note: str = "",
    seed: int = 0,
    precision: Precision = "float32",
    waveform_normalization: WaveformNormalization = "none",
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    audio: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Fit a codebook to each speaker, or group of speakers, and write all to one file.

    Without an encoder, codebooks are of cepstra, which 'vocable anonymize convert' makes audible without any model. Killed, the
    same command goes on behind the last codebook that was done.

    Parameters
    ----------
    source
        A folder of audio, or a manifest; --speakers says who speaks.
    out
        The file, .safetensors.
    encoder
        A checkpoint, such as WavLM-Large.pt: a file, a folder, or a name on the Hub.
    layer
        Whose frames are clustered; SEF-MK takes layer 6.
    clusters
        Centroids of each codebook; by default 1024 of an encoder's frames, 256 of each group of cepstra.
    speakers_per_codebook
        A number, or all.
    grouping
        Which speakers go together: those that follow each other by name (sorted), or any, by the seed (random).
    dtype
        Of the centroids in the file.
    note
        Goes into the file: what the speakers agreed to, or the licence of their recordings. Converted speech sounds like theirs.
    seed
        Of fits and groups.
    precision
        Of the encoder; bfloat16 is faster where the device is.
    waveform_normalization
        none, as in SEF-MK and knn-vc, whatever the encoder's checkpoint says; or utterance.
    strict
        Make any unusable file an error.
    overwrite
        Replace a file of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    from vocable.recipes.fleet_fitting import fit_fleet

    work = running.work(part.nshard, part.rank)
    if encoder is None and (idle := spelled(["layer", "precision", "waveform_normalization"])):
        raise InputError(f"{idle[0]} goes with --encoder: give that, or leave it out")
    file = (
        None if encoder is None else EncoderFile(encoder, waveform_normalization, resolved_precision(precision, work.devices[0]))
    )
    check_name(out)
    settings = FleetSettings(
        clusters=clusters,
        speakers_per_codebook=speakers_in_each(speakers_per_codebook, "--speakers-per-codebook"),
        grouping=grouping,
        half=dtype == "float16",
        note=note,
        seed=seed,
    )
    if dry_run:
        from vocable.recipes.anonymization_plan import plan_fleet

        print_table(f"codebooks in {out}", plan_fleet(source, settings, audio, FleetFrames(file, layer), work).rows())
        return
    made = fit_fleet(source, out, settings, audio, FleetFrames(file, layer), work, strict, overwrite)
    if made.fleet is None:
        report_others(made.missing, "the file", "codebook")
        return
    print(f"{out}: {len(made.fleet):,} codebooks{', done already' if made.was_done else ''}")
    if made.smaller:
        print(f"{made.smaller:,} of them have fewer centroids than asked for: there is too little of their speakers' speech")
    report_skipped(made.skipped, made.record)


def import_codebooks(
    listed: Path,
    /,
    *,
    out: Path,
    encoder: str | None = None,
    layer: int | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    note: str = "",
    waveform_normalization: WaveformNormalization = "none",
    names_are_speakers: bool = False,
    overwrite: bool = False,
) -> None:
    """Put codebooks that there are (joblib's, pickles, .npy, ours) into one file; nothing in them is run.

    Parameters
    ----------
    listed
        A list: a name and a path on each line, or a path alone, as SEF-MK's kmeans.scp; or a folder of codebooks.
    out
        The file, .safetensors.
    encoder
        The checkpoint whose frames they are of. Without it, the file doesn't say what it is for, and can't be used by convert.
    layer
        Of the encoder; SEF-MK's are of layer 6.
    dtype
        Of the centroids in the file.
    note
        Goes into the file: what the speakers agreed to, or the licence of their recordings.
    waveform_normalization
        none, as in SEF-MK and knn-vc, whatever the encoder's checkpoint says; or utterance.
    names_are_speakers
        Each codebook is called as the speaker it is of; convert --exclude-own-speaker needs to know.
    overwrite
        Replace a file that is there.
    """
    from vocable.recipes.codebook_lists import listed_codebooks
    from vocable.recipes.fleet_fitting import import_fleet

    spec = None if encoder is None else EncoderFile(encoder, waveform_normalization).spec(layer)
    made = import_fleet(listed_codebooks(listed), out, spec, dtype == "float16", note, names_are_speakers, overwrite)
    print(f"{out}: {len(made):,} codebooks of up to {made.codebooks.shape[1]:,} centroids of {made.dim} values")


def convert(
    first: Path,
    /,
    *more: Path,
    codebooks: Path,
    codebook_speakers: str | None = None,
    out: Path,
    voices: Voices = Voices(),
    exclude_own_speaker: bool = False,
    key: Path | None = None,
    draw: Literal["keyed", "reference"] = "keyed",
    write_draw: bool = False,
    compare: bool = False,
    match_length: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    audio: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Convert audio: one codebook for each file, or one for each stretch of frames.

    Writes UTTERANCE.wav files of 16 bits, anonymized.json, which says how they were made, and report.html, to listen to some.
    Which codebook is drawn follows from a key and the utterance's name alone.

    Parameters
    ----------
    first
        An audio file, a folder of audio, or a manifest (.tsv, .scp, .csv, .jsonl).
    more
        More of them.
    codebooks
        A file of 'vocable anonymize fit-codebooks' or 'import-codebooks'; or a folder of other speakers' audio, or a manifest of
        it, to which codebooks are fitted first.
    codebook_speakers
        Who speaks there, as --speakers says of the audio to convert; by default the same.
    out
        Folder for the files.
    exclude_own_speaker
        Never draw a codebook that the speaker of the file is in; --speakers says who that is.
    key
        A file of random bytes. The same key gives the same files; whoever has it can replay the draw. By default one is made for
        this run and kept nowhere.
    draw
        keyed; or reference: as the authors' code draws, from a seed that everybody knows.
    write_draw
        Write UTTERANCE.draw.json, too: which codebooks were drawn. It weakens what this is for.
    compare
        Put some originals on report.html, beside what was made of them; don't give that page away.
    match_length
        Give as many samples as came in. (Without a model, that is always so.)
    strict
        Make any unusable file an error.
    overwrite
        Replace speech of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    from vocable.anonymization.draw import read_key
    from vocable.recipes.anonymization import Conversion, convert_speech
    from vocable.recipes.fleet_fitting import fit_fleet
    from vocable.recipes.sources import opened_sources

    settings = voices.settings()
    if draw == "reference" and key is not None:
        raise InputError("--draw reference is everybody's draw and takes no --key: leave one of them out")
    work = running.work(part.nshard, part.rank)
    fleet = codebooks
    if codebooks.is_dir() or (codebooks.is_file() and codebooks.suffix != ".safetensors"):
        if voices.model is not None:
            raise InputError(f"--codebooks {codebooks}: with --model, fit them first, with 'vocable anonymize fit-codebooks'")
        fleet = out / "codebooks.safetensors"
        pool = replace(audio, speakers=codebook_speakers or audio.speakers)
        if dry_run:
            from vocable.recipes.anonymization_plan import plan_fleet

            print_table(f"codebooks in {fleet}, first", plan_fleet(codebooks, FleetSettings(), pool, FleetFrames(), work).rows())
            return
        made = fit_fleet(codebooks, fleet, FleetSettings(), pool, FleetFrames(), work, strict, overwrite)
        if made.fleet is None:
            report_others(made.missing, "the codebooks", "codebook")
            return
    elif codebook_speakers is not None:
        raise InputError("--codebook-speakers goes with --codebooks that are audio: leave it out")
    conversion = Conversion(
        codebooks=fleet, own_left_out=exclude_own_speaker, match_length=match_length, draw=draw,
        key=None if key is None else read_key(key), write_draw=write_draw, compared=compare, **settings,
    )  # fmt: skip
    with opened_sources([first, *more], out, audio, kept=not dry_run) as source:
        if dry_run:
            from vocable.recipes.anonymization_plan import plan_conversion

            print_table(f"{first} would be converted into {out}", plan_conversion(source, conversion, audio, work).rows())
            return
        done = convert_speech(source, out, conversion, audio, work, strict, overwrite)
    if done.missing:
        report_others(done.missing, "anonymized.json")
        return
    already = ", done already" if done.was_done else ""
    print(f"{done.out}: {done.utterances:,} utterances, {done.seconds / 60:,.1f} minutes{already}")
    report_skipped(done.skipped, done.record)

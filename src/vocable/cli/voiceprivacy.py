"""`vocable anonymize voiceprivacy`."""

from __future__ import annotations

from pathlib import Path

from vocable.cli.options import Part, Running
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.cli.voice_options import Voices

_SHOWN = 5


def voiceprivacy(
    data_dir: Path,
    /,
    *dataset: str,
    codebooks: Path,
    attacker_codebooks: Path | None = None,
    out: Path | None = None,
    suffix: str = "_anon",
    voices: Voices = Voices(),
    exclude_own_speaker: bool = False,
    key: Path | None = None,
    match_length: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Convert the VoicePrivacy challenge's data sets, folders in Kaldi's form, into others with speech, wav.scp and tables.

    Of libri_dev_enrolls becomes libri_dev_enrolls_anon: speech as wav/UTTERANCE.wav, of 16 bits, a wav.scp of it, and copies of
    utt2spk, text, trials and the other tables; utt2dur and reco2dur get other lengths where they change. In OUT called data,
    paths in wav.scp begin with data/, as the challenge's do; elsewhere they are whole. Killed, the same command goes on.

    Relative paths in a wav.scp that is read start from one folder, the first where any of them is there: the one above the folder
    of data sets, that folder, the data set, or the current folder. No pipe is run: those of flac and sph2pipe are taken for the
    files they name, others refused.

    Parameters
    ----------
    data_dir
        A data set, which has a wav.scp, or a folder of some.
    dataset
        Names of data sets in it; by default all but those that are what was made of others.
    codebooks
        A file of 'vocable anonymize fit-codebooks' or 'import-codebooks'.
    attacker_codebooks
        Another file, for the data sets that attackers make for themselves: whose names begin with train, or have enroll in them.
        Of these codebooks all are used, whoever speaks.
    out
        Folder for the new data sets; by default where those lie that they are made of.
    suffix
        Of the names of the new data sets.
    exclude_own_speaker
        Never draw a codebook that the speaker of the file is in; utt2spk says who that is.
    key
        A file of random bytes. The same key gives the same files; whoever has it can replay the draw. By default one is made for
        each data set and kept nowhere.
    match_length
        Give as many samples as came in. (Without a model, that is always so.)
    strict
        Make any unusable file an error.
    overwrite
        Replace what is of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    from vocable.anonymization.draw import read_key
    from vocable.recipes.anonymization import Conversion
    from vocable.recipes.voiceprivacy import ChosenSets, anonymize_sets, attackers_conversion, plan_sets

    settings = voices.settings()
    work = running.work(part.nshard, part.rank)
    chosen = ChosenSets.of(data_dir, dataset, out, suffix)
    conversion = Conversion(
        codebooks=codebooks, own_left_out=exclude_own_speaker, match_length=match_length,
        key=None if key is None else read_key(key), **settings,
    )  # fmt: skip
    theirs = None if attacker_codebooks is None else attackers_conversion(conversion, attacker_codebooks)
    if chosen.passed_over:
        print(f"Passed over, since their names end in {suffix}: {', '.join(chosen.passed_over)}")
    if dry_run:
        for item, plan in plan_sets(chosen, conversion, theirs, work):
            print_table(f"{item.folder} would be converted into {chosen.target(item)}", plan.rows())
        return
    for made in anonymize_sets(chosen, conversion, theirs, work, strict, overwrite):
        done = made.converted
        if done.missing:
            report_others(done.missing, f"the tables of {made.folder}")
            continue
        already = ", done already" if done.was_done else ""
        print(f"{made.folder}: {done.utterances:,} utterances, {done.seconds / 60:,.1f} minutes{already}")
        report_skipped(done.skipped, done.record)
        if done.skipped:
            print("  They aren't in wav.scp; utt2spk and the other tables still list them.")
        if made.not_copied:
            more = f" and {len(made.not_copied) - _SHOWN:,} more" if len(made.not_copied) > _SHOWN else ""
            named = ", ".join(made.not_copied[:_SHOWN])
            print(f"  Not copied, since they are no tables, or tell of the originals' sound: {named}{more}")

"""`vocable evaluate voiceprivacy`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from vocable.cli.evaluate_anonymity import listening
from vocable.cli.tables import print_columns, report_skipped


def voiceprivacy(
    originals: Path,
    anonymized: Path,
    /,
    *,
    suffix: str = "_anon",
    verifier: str = "resemblyzer",
    json_: bool = False,
    workers: int | None = None,
) -> None:
    """Score the trials of the VoicePrivacy challenge: equal error rates with intervals over speakers, for two attackers.

    Speakers are enrolled by the mean of what the verifier makes of their utterances in NAME_enrolls; NAME_trials_f and
    NAME_trials_m say in their file trials what each is compared with.

    Parameters
    ----------
    originals
        The challenge's folder of data sets in Kaldi's form.
    anonymized
        The folder of what was made of them; it may be the same.
    suffix
        Of the names of what was made.
    verifier
        What describes who speaks: as for 'vocable evaluate privacy'.
    json_
        Print JSON.
    workers
        Processes that listen; by default one for each core.
    """
    from vocable.evaluation.verifiers import verifier as known
    from vocable.recipes.anonymity import finite
    from vocable.recipes.judging import Judging
    from vocable.recipes.voiceprivacy_scores import score_voice_privacy

    known(verifier)  # says now whether it can be had
    with tempfile.TemporaryDirectory() as folder, listening(workers) as engine:
        found = score_voice_privacy(originals, anonymized, suffix, verifier, Judging(engine, Path(folder)))
    if json_:
        values = {**asdict(found), "skipped": [item.path for item in found.skipped]}
        print(json.dumps(finite(values), indent=2, allow_nan=False))
        return
    rows = found.rows()
    print_columns(
        f"{anonymized}: equal error rates, by {verifier}; in brackets 95 % of draws of speakers",
        list(rows[0]),
        [list(row.values()) for row in rows],
    )
    if found.missing:
        print(
            f"{len(found.missing):,} originals have nothing made of them, such as {found.missing[0]}; their trials are left out"
        )
    if found.skipped:
        report_skipped(found.skipped, None)
        print(f"  Trials of these {len(found.skipped):,} files are left out, too; the first is {found.skipped[0].path}.")

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import artefacts_in, write_audio
from vocable.audio.faults import read_skipped
from vocable.audio.manifest_files import read_manifest, write_manifest
from vocable.clustering import read_codebook
from vocable.errors import DiskFullError, InputError
from vocable.execution import Work
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.units import read_units

SMALL = FitSettings(clusters=12)
SETTINGS = Preparation(fit=SMALL, valid_percent=0.15)


def test_a_folder_becomes_labels(corpus: Path, tmp_path: Path) -> None:
    made = prepare(corpus, tmp_path / "run", SETTINGS)
    files = artefacts_in(tmp_path / "run")
    assert sorted(files) == [
        "codebook.safetensors",
        "dict.km.txt",
        "prepare.json",
        "skipped.jsonl",
        "summary.json",
        *(f"{split}{ending}" for split in ("train", "valid") for ending in (".km", ".km.json", ".tsv")),
    ]
    assert {name: len(part) for name, part in made.splits.items()} == {"train": 20, "valid": 4}
    assert len(files["dict.km.txt"].splitlines()) == 12
    assert files["skipped.jsonl"] == b""
    for split in ("train", "valid"):
        manifest, units = read_manifest(tmp_path / "run" / f"{split}.tsv"), read_units(tmp_path / "run" / f"{split}.km")
        assert units.lengths.tolist() == [1 + (samples - 400) // 160 for samples in manifest.samples]
        assert units.header.manifest == manifest.digest
        assert units.header.codebook == made.codebook.digest
    assert made.summary["splits"]["train"]["utterances"] == 20


def test_labels_are_the_nearest_centroids_of_the_frames(corpus: Path, tmp_path: Path) -> None:
    from vocable.features import Mfcc

    made = prepare(corpus, tmp_path / "run", SETTINGS)
    units = read_units(tmp_path / "run" / "valid.km")
    valid = made.splits["valid"]
    for row, item in enumerate(valid):
        waveform, _ = soundfile.read(valid.where(item), dtype="float32")
        frames = Mfcc()([waveform])[0].astype(np.float64)
        distances = ((frames[:, None] - made.codebook.centroids.astype(np.float64)) ** 2).sum(axis=2)
        assert units[row].tolist() == distances.argmin(axis=1).tolist()


def test_labels_that_the_fit_found_are_those_of_a_labelling(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of utterances that were fitted to aren't made again, and what couldn't be read is left out all the same."""
    from vocable.units.labelling import LabelBlocks

    corpus = shutil.copytree(corpus, tmp_path / "corpus")
    write_audio(corpus / "long.wav", 3.0, 77)
    cut = (corpus / "long.wav").read_bytes()
    (corpus / "cut.wav").write_bytes(cut[:44] + b"\xff\xff\xff\x7f" * (len(cut) // 4))
    labelled: list[int] = []
    opened = LabelBlocks.open

    def counted(self: LabelBlocks, device: str) -> Callable[..., object]:
        run = opened(self, device)
        return lambda block: (labelled.append(len(block.utterances)), run(block))[1]

    monkeypatch.setattr(LabelBlocks, "open", counted)
    found = prepare(corpus, tmp_path / "found", SETTINGS)
    assert sum(labelled) == len(found.splits["valid"])
    part = Preparation(fit=FitSettings(clusters=12, fraction=1.0), valid_percent=0.15)
    monkeypatch.setattr("vocable.recipes.fitting._by_block", lambda *_: {})
    labelled.clear()
    made = prepare(corpus, tmp_path / "made", part)
    assert sum(labelled) > len(made.splits["valid"])
    for name in ("train.km", "valid.km", "train.tsv", "valid.tsv", "skipped.jsonl"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "made" / name).read_bytes()


@pytest.mark.parametrize(
    "frames",
    [
        FrameChoice(),
        FrameChoice(features="logmel", mel_bins=40, normalize="corpus"),
        FrameChoice(normalize="speaker", context=2),
        FrameChoice(features="logmel", mel_bins=80, normalize="utterance"),
    ],
)
def test_workers_shards_and_reruns_make_the_same_bytes(
    corpus: Path, tmp_path: Path, frames: FrameChoice, short_blocks: None
) -> None:
    settings = Preparation(
        corpus=CorpusSettings(speakers="{speaker}/*"), frames=frames, fit=SMALL, valid_percent=0.15, forms=(".km", ".units")
    )
    prepare(corpus, tmp_path / "one", settings)
    prepare(corpus, tmp_path / "two", settings, Work(workers=2))
    expected = artefacts_in(tmp_path / "one")
    assert artefacts_in(tmp_path / "two") == expected
    for nshard, ranks in ((3, (2, 0, 1)), (7, (6, 5, 4, 3, 2, 1, 0))):
        for rank in ranks:
            made = prepare(corpus, tmp_path / str(nshard), settings, Work(nshard=nshard, rank=rank))
            assert (made.missing == 0) == (rank == ranks[-1])
        assert artefacts_in(tmp_path / str(nshard)) == expected
    prepare(corpus, tmp_path / "one", settings)
    assert artefacts_in(tmp_path / "one") == expected


def test_of_parts_that_run_at_once_the_last_writes_the_results(corpus: Path, tmp_path: Path, short_blocks: None) -> None:
    """A part that works while another does sees what that has finished by the time it ends itself, of every split."""
    from vocable.recipes import labels

    prepare(corpus, tmp_path / "whole", SETTINGS)
    run = labels.Stage.run
    missing = []

    def interleaved(stage: labels.Stage, job: object, blocks: list, engine: object, *rest: object) -> object:
        if stage.name == "units" and not missing:
            missing.append(-1)  # the other part begins and ends while this one is at work
            missing[0] = prepare(corpus, tmp_path / "parts", SETTINGS, Work(nshard=2, rank=1)).missing
        return run(stage, job, blocks, engine, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels.Stage, "run", interleaved)
        made = prepare(corpus, tmp_path / "parts", SETTINGS, Work(nshard=2, rank=0))
    assert missing[0] > 0
    assert made.missing == 0
    assert artefacts_in(tmp_path / "parts") == artefacts_in(tmp_path / "whole")


def test_speakers_are_normalised_by_all_they_say_whichever_side_they_are_on(tmp_path: Path, cli: Callable[..., str]) -> None:
    for at in range(12):
        write_audio(tmp_path / "a" / f"s{at % 3}" / f"{at}.wav", 1.5, at)
    for sides in ([], ["--by-speaker"]):
        run = tmp_path / f"run{len(sides)}"
        speakers = ["--speakers", "{speaker}/*", "--workers", 1]
        options = ["--clusters", 8, "--normalize", "speaker", "--valid-percent", 0.3, *sides]
        cli("prepare", tmp_path / "a", "--out", run, *options, *speakers)
        cli("units", tmp_path / "a", "--codebook", run / "codebook.safetensors", "--out", run / "all", *speakers)
        labels = read_units(run / "all" / "units.km")
        by_id = dict(zip(read_manifest(run / "all" / "units.tsv").ids, labels, strict=True))
        for split in ("train", "valid"):
            for name, units in zip(read_manifest(run / f"{split}.tsv").ids, read_units(run / f"{split}.km"), strict=True):
                assert np.array_equal(units, by_id[name]), (sides, split, name)


def test_running_again_does_nothing_twice(corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "run", SETTINGS)
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.name not in ("run.jsonl", "corpus.json", "prepare.json")
    }
    prepare(corpus, tmp_path / "run", SETTINGS)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    # Only what is missing is made: a label file that was removed comes back from the ledger.
    (tmp_path / "run" / "train.km").unlink()
    (tmp_path / "run" / "summary.json").unlink()
    prepare(corpus, tmp_path / "run", SETTINGS)
    blocks = [path for path in before if path.parent.name == "blocks"]
    assert sorted(blocks) == sorted((tmp_path / "run" / ".vocable" / "blocks").iterdir())
    assert (tmp_path / "run" / "train.km").exists()


def test_other_settings_are_refused_or_replace(corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "run", SETTINGS)
    other = Preparation(fit=FitSettings(clusters=7), valid_percent=0.0)
    with pytest.raises(InputError, match=r"made with other settings: clusters 12 then, 7 now\): give another .*, or --overwrite"):
        prepare(corpus, tmp_path / "run", other)
    prepare(corpus, tmp_path / "run", other, overwrite=True)
    prepare(corpus, tmp_path / "fresh", other)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")
    assert not (tmp_path / "run" / "valid.km").exists()


def test_audio_that_changed_is_refused_or_prepared_anew(tmp_path: Path) -> None:
    for at in range(4):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at)
    prepare(tmp_path / "audio", tmp_path / "run", SETTINGS)
    write_audio(tmp_path / "audio" / "9.wav", 1.0, 9)
    with pytest.raises(InputError, match=r"\(the audio has changed since: .*--overwrite"):
        prepare(tmp_path / "audio", tmp_path / "run", SETTINGS)
    made = prepare(tmp_path / "audio", tmp_path / "run", SETTINGS, overwrite=True)
    assert sum(len(part) for part in made.splits.values()) == 5
    # The same names and lengths, other sound: told by the files' times.
    write_audio(tmp_path / "audio" / "9.wav", 1.0, 10)
    os.utime(tmp_path / "audio" / "9.wav", (1, 1))
    with pytest.raises(InputError, match="the audio has changed since"):
        prepare(tmp_path / "audio", tmp_path / "run", SETTINGS)


def spoiled_corpus(root: Path) -> None:
    """Every kind of unusable file, beside eight good ones."""
    for at in range(8):
        write_audio(root / f"good {at}ü.wav", 0.5 + 0.1 * at, at)
    write_audio(root / "good 0ü.flac", 1.0, 1)  # sorts before the .wav, which becomes the duplicate
    write_audio(root / "short.wav", 0.02, 1)
    write_audio(root / "long.wav", 3.0, 1)
    write_audio(root / "tab\t.wav", 1.0, 1)
    write_audio(root / "line\n.wav", 1.0, 1)
    os.link(root / "good 1ü.wav", os.fsencode(root) + b"/latin\xe9.wav")
    (root / "empty.wav").write_bytes(b"")
    soundfile.write(root / "none.wav", np.zeros(0), 16000)
    (root / "header.wav").write_bytes((root / "good 1ü.wav").read_bytes()[:44])
    write_audio(root / 'it\'s "quoted".wav', 0.02, 1)
    (root / "broken.flac").write_bytes(b"fLaC nothing more")
    cut = write_audio(root / "cut.flac", 1.0, 3)
    cut.write_bytes(cut.read_bytes()[:8000])
    (root / "gone.wav").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root)
    soundfile.write(root / "silent.wav", np.zeros(16000), 16000)
    values = np.full(16000, 0.1)
    values[77] = np.nan
    soundfile.write(root / "nan.wav", values, 16000, subtype="FLOAT")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_with_every_kind_of_bad_file_ends_well_and_names_each(tmp_path: Path, workers: int) -> None:
    spoiled_corpus(tmp_path / "audio")
    settings = Preparation(corpus=CorpusSettings(max_seconds=2.5), fit=FitSettings(clusters=5), valid_percent=0.2)
    made = prepare(tmp_path / "audio", tmp_path / "run", settings, Work(workers=workers))
    reasons = {item.path.rsplit("/", 1)[-1]: item.reason for item in read_skipped(tmp_path / "run" / "skipped.jsonl")}
    assert reasons == {
        "good 0ü.wav": "duplicate id",
        "short.wav": "short",
        "long.wav": "long",
        "tab\t.wav": "name",
        "line\n.wav": "name",
        "latin\\xe9.wav": "name",
        "empty.wav": "empty",
        "none.wav": "empty",
        "header.wav": "unreadable",
        'it\'s "quoted".wav': "short",
        "broken.flac": "unreadable",
        "cut.flac": "unreadable",
        "gone.wav": "vanished",
        "silent.wav": "silent",
        "nan.wav": "not finite",
    }
    assert sum(len(part) for part in made.splits.values()) == 8
    assert sum(made.summary["skipped"].values()) == 15
    for split in ("train", "valid"):
        assert len(read_units(tmp_path / "run" / f"{split}.km")) == len(read_manifest(tmp_path / "run" / f"{split}.tsv"))
    with pytest.raises(InputError, match="leave --strict out"):
        prepare(tmp_path / "audio", tmp_path / "strict", Preparation(fit=FitSettings(clusters=5), strict=True))


@pytest.mark.parametrize(("name", "reason"), [("silent.wav", "silent: every sample is zero"), ("empty.wav", "empty: ")])
@pytest.mark.parametrize("remedy", ["mend", "lenient"])
def test_strict_refuses_and_its_remedies_work(tmp_path: Path, name: str, reason: str, remedy: str) -> None:
    """Of what headers show, before the work; of what only decoding shows, after it. Nothing of that stands in the way then."""
    for at in range(3):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at)
    soundfile.write(tmp_path / "audio" / name, np.zeros(16000 if name == "silent.wav" else 0), 16000)
    strict = Preparation(fit=FitSettings(clusters=3), strict=True)
    with pytest.raises(InputError, match=rf"{name}: {reason}.*\(all in .*skipped.jsonl\)"):
        prepare(tmp_path / "audio", tmp_path / "run", strict)
    assert not artefacts_in(tmp_path / "run")
    assert [item.path for item in read_skipped(tmp_path / "run" / ".vocable" / "skipped.jsonl")] == [name]
    if remedy == "mend":
        (tmp_path / "audio" / name).unlink()
        assert not prepare(tmp_path / "audio", tmp_path / "run", strict).skipped
    else:
        made = prepare(tmp_path / "audio", tmp_path / "run", Preparation(fit=FitSettings(clusters=3)))
        assert [item.path for item in made.skipped] == [name]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "audio doesn't exist: give a folder of audio, or a manifest"),
        (lambda root: root.mkdir(), "has no audio .no file of a known format.: give a folder of speech"),
        (lambda root: (root.mkdir(), (root / "a.wav").write_bytes(b"")), "has no usable audio: 1 empty; the first is a.wav"),
        (lambda root: write_audio(root / "a.wav", 1.0, 1), "needs two utterances at least|split needs two utterances"),
    ],
)
def test_nothing_usable_is_said_in_a_sentence(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "audio")  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "audio", tmp_path / "run", Preparation(fit=FitSettings(clusters=2)))


def test_fewer_frames_than_clusters_is_said_in_a_sentence(tmp_path: Path) -> None:
    for at in range(2):
        write_audio(tmp_path / "audio" / f"{at}.wav", 0.1, at)
    with pytest.raises(InputError, match="16 frames can't make 50 clusters: take fewer clusters"):
        prepare(tmp_path / "audio", tmp_path / "run", Preparation(fit=FitSettings(clusters=50), valid_percent=0))


def test_a_manifest_of_any_form_does_what_the_folder_does(corpus: Path, tmp_path: Path) -> None:
    settings = Preparation(fit=SMALL, valid_percent=0.0)
    prepare(corpus, tmp_path / "folder", settings)
    whole = read_manifest(tmp_path / "folder" / "train.tsv")
    expected = (tmp_path / "folder" / "train.km").read_bytes()
    for form in ("tsv", "csv", "jsonl", "scp"):
        source = tmp_path / f"m.{form}"
        write_manifest(source, whole)
        prepare(source, tmp_path / form, settings)
        assert (tmp_path / form / "train.km").read_bytes() == expected


def test_other_rates_and_channels_are_taken_in(tmp_path: Path) -> None:
    for at, rate in enumerate((8000, 16000, 22050, 44100, 48000)):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at, sample_rate=rate)
    stereo = np.stack([np.random.default_rng(0).standard_normal(16000) * 0.1] * 2, axis=1)
    soundfile.write(tmp_path / "audio" / "stereo.wav", stereo, 16000)
    made = prepare(tmp_path / "audio", tmp_path / "run", Preparation(fit=FitSettings(clusters=5), valid_percent=0))
    assert made.splits["train"].samples.tolist() == [16000] * 6
    assert read_units(tmp_path / "run" / "train.km").lengths.tolist() == [98] * 6


def test_a_full_disk_ends_in_a_sentence_and_loses_nothing_finished(corpus: Path, tmp_path: Path) -> None:
    import resource

    prepare(corpus, tmp_path / "whole", SETTINGS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(len(content) for content in artefacts_in(tmp_path / "whole").values())
    for limit in (300, 3000, largest - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(DiskFullError, match="no space left to write .*what was finished is kept"):
                prepare(corpus, tmp_path / "run", SETTINGS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / "run").glob(".*.part"))
    prepare(corpus, tmp_path / "run", SETTINGS)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "whole")


def test_a_block_that_kills_its_worker_is_left_out_and_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that crashes the decoder costs nothing but itself; run again when it is mended, it is taken."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if os.environ.get('POISON'):\n"
        "    import vocable.audio.decoding as decoding, vocable.features.pipeline as pipeline\n"
        "    original = decoding.read_waveform\n"
        "    def read(path, *rest):\n"
        "        if path.endswith(os.environ['POISON']):\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return original(path, *rest)\n"
        "    pipeline.read_waveform = read\n"
    )
    monkeypatch.syspath_prepend(str(hook))
    settings = Preparation(fit=SMALL, valid_percent=0.0)
    prepare(corpus, tmp_path / "whole", settings)
    monkeypatch.setattr("vocable.audio.blocks.blocks_of.__defaults__", (5.0,))
    monkeypatch.setenv("POISON", "s1-10.flac")
    made = prepare(corpus, tmp_path / "run", settings, Work(workers=2))
    lost = read_skipped(tmp_path / "run" / "skipped.jsonl")
    assert made.codebook.fit["lost"] == 1
    assert [(item.path.rpartition("/")[2], item.reason) for item in lost] == [("s1-10.flac", "crash")]
    assert len(made.splits["train"]) == 23
    monkeypatch.delenv("POISON")
    prepare(corpus, tmp_path / "run", settings, Work(workers=2))
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "whole")


def test_a_fraction_and_mini_batches_make_other_codebooks(corpus: Path, tmp_path: Path) -> None:
    digests = {
        prepare(corpus, tmp_path / str(at), Preparation(fit=fit, valid_percent=0)).codebook.digest
        for at, fit in enumerate(
            (
                FitSettings(clusters=5),
                FitSettings(clusters=5, fraction=0.4),
                FitSettings(clusters=5, algorithm="minibatch", n_init=2, max_iter=3),
                FitSettings(clusters=5, seed=1),
            )
        )
    }
    assert len(digests) == 4
    fit = read_codebook(tmp_path / "1" / "codebook.safetensors").fit
    assert 0 < fit["utterances"] < 24
    with pytest.raises(InputError, match="leaves none to fit on"):
        prepare(corpus, tmp_path / "none", Preparation(fit=FitSettings(clusters=5, fraction=1e-9)))


@pytest.mark.parametrize("options", [{"clusters": 0}, {"fraction": 0.0}, {"fraction": 1.5}])
def test_impossible_fits_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="--(clusters|fraction)"):
        FitSettings(**options)  # type: ignore[arg-type]


def test_the_summary_is_json_people_can_read(corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "run", SETTINGS)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["clusters"] == 12
    assert summary["splits"]["train"]["dead"] == 0
    assert summary["rate"] == 100.0

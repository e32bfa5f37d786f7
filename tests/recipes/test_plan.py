"""What `--dry-run` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import write_audio
from vocable.audio.manifest_files import write_manifest
from vocable.clustering import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.execution import Work
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation
from vocable.recipes.plan import plan_dump, plan_fit, plan_labels, plan_units

Cli = Callable[..., str]
SMALL = FitSettings(clusters=12)
SETTINGS = Preparation(fit=SMALL, valid_percent=0.15)


def test_a_plan_says_what_it_would_take_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    out, book = tmp_path / "run", tmp_path / "km.safetensors"
    before = sorted(tmp_path.rglob("*"))
    plan = plan_labels(corpus, out, SETTINGS, Work(workers=2))
    lengths = read_manifest_of(corpus).samples
    assert plan.utterances == 24
    assert plan.frames == sum(1 + (samples - 400) // 160 for samples in lengths.tolist())
    assert plan.written == (3 + 2) * plan.frames  # two digits and a blank, and two bytes in the ledger
    assert set(plan.rows()) >= {"hours of audio", "writes", "memory", "time"}
    dumped = plan_dump(corpus, CorpusSettings(), FrameChoice(context=1, normalize="corpus"), Work())
    assert dumped.written == plan.frames * 39 * 3 * 4
    assert plan_fit(corpus, book, CorpusSettings(), FrameChoice(), SMALL, Work()).written == 12 * 39 * 4
    codebook = Codebook(np.zeros((500, 39), np.float32), FrameChoice().base(16000))
    assert plan_units(corpus, CorpusSettings(), codebook, Work()).written == (4 + 2) * plan.frames
    with pytest.raises(MismatchError, match="say what frames it is for"):
        plan_units(corpus, CorpusSettings(), Codebook(np.zeros((500, 39), np.float32)), Work())
    assert sorted(tmp_path.rglob("*")) == before
    write_manifest(tmp_path / "m.tsv", read_manifest_of(corpus))
    assert plan_labels(tmp_path / "m.tsv", out, SETTINGS, Work()).utterances == 24
    whole = plan_labels(corpus, out, SETTINGS, Work())
    part = plan_labels(corpus, out, SETTINGS, Work(nshard=4, rank=1))
    assert any("part" in name for name in part.rows()), part.rows()
    assert whole.frames == part.frames
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no audio"):
        plan_labels(tmp_path / "empty", out, SETTINGS, Work())
    with pytest.raises(InputError, match="--valid-percent"):
        plan_labels(corpus, out, Preparation(fit=SMALL, valid_percent=2), Work())


def read_manifest_of(corpus: Path):  # type: ignore[no-untyped-def]
    from vocable.execution import Engine
    from vocable.recipes.corpus import open_corpus

    with Engine(Work()) as engine:
        return open_corpus(corpus, CorpusSettings(), engine, corpus.parent / "scan").manifest


def test_parts_of_the_work_are_planned_as_they_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit and statistics are each part's own; labelling is shared out, if it isn't done by the fit on the way."""
    monkeypatch.setattr("vocable.recipes.plan.measured_rate", lambda *_: 1.0)
    for at in range(4):
        write_audio(tmp_path / f"{at}.wav", 5.0, at)
    fit = FitSettings(clusters=3)
    whole, part = (
        plan_fit(tmp_path, tmp_path / "km.safetensors", CorpusSettings(), FrameChoice(), fit, Work(nshard=n)).time
        for n in (1, 16)
    )
    assert whole == part > 19
    some = FitSettings(clusters=3, fraction=0.3)
    plain, normal, all_fitted = (
        [plan_labels(tmp_path, tmp_path / "run", Preparation(frames=frames, fit=fit), Work(nshard=n)).time for n in (1, 4)]
        for frames, fit in ((FrameChoice(), some), (FrameChoice(normalize="corpus"), some), (FrameChoice(), fit))
    )
    assert all_fitted[0] == all_fitted[1] == pytest.approx(whole, abs=0.1)
    assert plain[0] - plain[1] == pytest.approx(15, abs=0.1)
    assert normal[0] - normal[1] == pytest.approx(15, abs=0.1)
    assert normal[1] - plain[1] == pytest.approx(20, abs=0.1)


def test_a_plan_counts_what_each_form_takes(tmp_path: Path, cli: Cli) -> None:
    for at in range(4):
        write_audio(tmp_path / "a" / f"{at}.wav", 20.0, at)
    cli("kmeans", tmp_path / "a", "--out", tmp_path / "km.safetensors", "--clusters", 50)
    codebook = read_codebook(tmp_path / "km.safetensors")
    for forms in (("km",), ("units",), ("rle",), ("km", "units", "rle")):
        out = tmp_path / "-".join(forms)
        cli("units", tmp_path / "a", "--codebook", tmp_path / "km.safetensors", "--out", out, "--form", ",".join(forms))
        really = sum(path.stat().st_size for path in [*out.glob("units.*"), *(out / ".vocable" / "blocks").iterdir()])
        planned = plan_units(tmp_path / "a", CorpusSettings(), codebook, Work(), [f".{form}" for form in forms]).written
        assert 0.6 * really < planned < 1.6 * really, forms


def test_a_dry_run_says_what_stands_there(tmp_path: Path, cli: Cli) -> None:
    for at in range(4):
        write_audio(tmp_path / "a" / f"{at}.wav", 2.0, at)
    cli("features", "mfcc", tmp_path / "a", "--out", tmp_path / "f", "--workers", 1)
    prepare_ = ["prepare", tmp_path / "a", "--out", tmp_path / "run", "--workers", 1, "--clusters"]
    kmeans = ["kmeans", tmp_path / "a", "--out", tmp_path / "km.safetensors", "--workers", 1, "--clusters"]
    stored = ["kmeans", tmp_path / "f", "--out", tmp_path / "stored.safetensors", "--workers", 1, "--clusters"]
    for arguments in (prepare_, kmeans, stored):
        assert "done already" not in cli(*arguments, 5, "--dry-run")
        cli(*arguments, 5)
        assert "none: done already" in cli(*arguments, 5, "--dry-run")
        assert "is there already (made with other settings: clusters 5 then, 6 now)" in cli(
            *arguments, 6, "--dry-run", fails=True
        )
        assert "done already" not in cli(*arguments, 6, "--dry-run", "--overwrite")

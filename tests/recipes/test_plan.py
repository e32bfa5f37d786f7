"""What `--dry-run` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import write_audio
from vocable.audio.manifest_files import write_manifest
from vocable.clustering import Codebook
from vocable.errors import InputError, MismatchError
from vocable.execution import Work
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation
from vocable.recipes.plan import plan_dump, plan_fit, plan_labels, plan_units

SMALL = FitSettings(clusters=12)
SETTINGS = Preparation(fit=SMALL, valid_percent=0.15)


def test_a_plan_says_what_it_would_take_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan = plan_labels(corpus, SETTINGS, Work(workers=2))
    lengths = read_manifest_of(corpus).samples
    assert plan.utterances == 24
    assert plan.frames == sum(1 + (samples - 400) // 160 for samples in lengths.tolist())
    assert plan.written == 3 * plan.frames
    assert set(plan.rows()) >= {"hours of audio", "writes", "memory", "time"}
    dumped = plan_dump(corpus, CorpusSettings(), FrameChoice(context=1, normalize="corpus"), Work())
    assert dumped.written == plan.frames * 39 * 3 * 4
    assert plan_fit(corpus, CorpusSettings(), FrameChoice(), SMALL, Work()).written == 12 * 39 * 4
    codebook = Codebook(np.zeros((500, 39), np.float32), FrameChoice().base(16000))
    assert plan_units(corpus, CorpusSettings(), codebook, Work()).written == 4 * plan.frames
    with pytest.raises(MismatchError, match="say what frames it is for"):
        plan_units(corpus, CorpusSettings(), Codebook(np.zeros((500, 39), np.float32)), Work())
    assert sorted(tmp_path.rglob("*")) == before
    write_manifest(tmp_path / "m.tsv", read_manifest_of(corpus))
    assert plan_labels(tmp_path / "m.tsv", SETTINGS, Work()).utterances == 24
    whole = plan_labels(corpus, SETTINGS, Work())
    part = plan_labels(corpus, SETTINGS, Work(nshard=4, rank=1))
    assert any("part" in name for name in part.rows()), part.rows()
    assert whole.frames == part.frames
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no audio"):
        plan_labels(tmp_path / "empty", SETTINGS, Work())
    with pytest.raises(InputError, match="--valid-percent"):
        plan_labels(corpus, Preparation(fit=SMALL, valid_percent=2), Work())


def read_manifest_of(corpus: Path):  # type: ignore[no-untyped-def]
    from vocable.execution import Engine
    from vocable.recipes.corpus import open_corpus

    with Engine(Work()) as engine:
        return open_corpus(corpus, CorpusSettings(), engine, corpus.parent / "scan").manifest


def test_parts_of_the_work_are_planned_as_they_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit and statistics are each part's own; only labelling is shared out."""
    monkeypatch.setattr("vocable.recipes.plan._measured_rate", lambda *_: 1.0)
    for at in range(4):
        write_audio(tmp_path / f"{at}.wav", 5.0, at)
    fit = FitSettings(clusters=3)
    whole, part = (plan_fit(tmp_path, CorpusSettings(), FrameChoice(), fit, Work(nshard=n)).time for n in (1, 16))
    assert whole == part > 19
    plain, normal = (
        [plan_labels(tmp_path, Preparation(frames=frames, fit=fit), Work(nshard=n)).time for n in (1, 4)]
        for frames in (FrameChoice(), FrameChoice(normalize="corpus"))
    )
    assert plain[0] - plain[1] == pytest.approx(15, abs=0.1)
    assert normal[0] - normal[1] == pytest.approx(15, abs=0.1)
    assert normal[1] - plain[1] == pytest.approx(20, abs=0.1)

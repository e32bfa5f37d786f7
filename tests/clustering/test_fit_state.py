from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clustering.made import mixture
from vocable.clustering import KMeans
from vocable.clustering.fit_state import FitState
from vocable.clustering.trajectory import Progress


def test_a_killed_fit_goes_on_after_its_last_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocable.clustering import fit_state, lloyd

    monkeypatch.setattr(fit_state, "_EVERY", 0.0)
    frames = mixture(40_000, clusters=80, seed=2)
    options: dict[str, Any] = {"random_state": 0, "tol": 1e-6}
    whole = KMeans(20, **options).fit(frames)
    original = lloyd._Fitter._note

    def die_at(passes: int) -> Any:
        count = 0

        def note(self: Any, progress: Progress) -> None:
            nonlocal count
            original(self, progress)
            count += 1
            if count == passes:
                raise KeyboardInterrupt

        return note

    for passes in (1, 4, 9):
        state = tmp_path / f"state-{passes}"
        monkeypatch.setattr(lloyd._Fitter, "_note", die_at(passes))
        with pytest.raises(KeyboardInterrupt):
            KMeans(20, state=state, **options).fit(frames)
        assert state.exists()
        monkeypatch.setattr(lloyd._Fitter, "_note", original)
        resumed = KMeans(20, state=state, **options).fit(frames)
        assert np.array_equal(resumed.cluster_centers_, whole.cluster_centers_)
        assert (resumed.inertia_, resumed.n_iter_, resumed.history_) == (whole.inertia_, whole.n_iter_, whole.history_)
        # What was found may be lost before it is written; then the passes are not.
        counted = []
        once_more = KMeans(20, state=state, verbose=counted.append, **options).fit(frames)
        assert np.array_equal(once_more.cluster_centers_, whole.cluster_centers_)
        assert once_more.history_ == whole.history_
        assert counted == []


def test_a_broken_state_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"junk")
    assert FitState(tmp_path / "state", "key").read() is None
    frames = mixture(2000)
    model = KMeans(5, random_state=0, state=tmp_path / "state").fit(frames)
    assert np.array_equal(model.cluster_centers_, KMeans(5, random_state=0).fit(frames).cluster_centers_)


def test_the_progress_of_another_fit_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other frames, options or starts under the same state file begin anew, and end as if there had been none."""
    from vocable.clustering import fit_state, lloyd

    monkeypatch.setattr(fit_state, "_EVERY", 0.0)
    frames = mixture(3000, clusters=30)
    changes: list[tuple[Any, dict[str, Any]]] = [
        (frames[:-1], {}),
        (mixture(3000, clusters=30, seed=1), {}),
        (frames.astype(np.float64), {}),
        (frames, {"n_clusters": 11}),
        (frames, {"random_state": 1}),
        (frames, {"tol": 0.01}),
        (frames, {"max_iter": 3}),
        (frames, {"n_init": 2}),
        (frames, {"init": "random"}),
        (frames, {"init": frames[:10]}),
    ]
    original = lloyd._Fitter._note

    def die(self: Any, progress: Progress) -> None:
        original(self, progress)
        raise KeyboardInterrupt

    for other, options in changes:
        state = tmp_path / "state"
        monkeypatch.setattr(lloyd._Fitter, "_note", die)
        with pytest.raises(KeyboardInterrupt):
            KMeans(10, random_state=0, state=state).fit(frames)
        monkeypatch.setattr(lloyd._Fitter, "_note", original)
        chosen = {"n_clusters": 10, "random_state": 0, **options}
        expected = KMeans(**chosen).fit(other)
        found = KMeans(**chosen, state=state).fit(other)
        assert np.array_equal(found.cluster_centers_, expected.cluster_centers_)
        assert found.history_ == expected.history_

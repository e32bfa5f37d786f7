from __future__ import annotations

import numpy as np

from vocable.clustering.trajectory import Progress

NONE = np.zeros(2, dtype=bool)


def rows(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_centroids_go_beyond_means_that_moved() -> None:
    first = Progress.at(1, rows(0, 0)).after(9.0, rows(1, 5), NONE, tol=1e-3, max_iter=100)
    assert first.centroids.tolist() == rows(1, 5).tolist()  # a start is no mean: nothing tells of a direction yet
    second = first.after(8.0, rows(2, 5), NONE, tol=1e-3, max_iter=100)
    assert second.extrapolated
    assert np.allclose(second.centroids, rows(2.9, 5))
    assert second.history == [9.0, 8.0]


def test_a_pass_that_raised_the_inertia_is_taken_back() -> None:
    second = Progress.at(1, rows(0, 0)).after(9.0, rows(1, 5), NONE, 1e-3, 100).after(8.0, rows(2, 5), NONE, 1e-3, 100)
    back = second.after(8.5, rows(7, 7), NONE, 1e-3, 100)
    assert back.history == [9.0, 8.0]
    assert back.centroids.tolist() == rows(2, 5).tolist()
    assert not back.extrapolated
    plain = back.after(7.0, rows(3, 5), NONE, 1e-3, 100)
    assert plain.centroids.tolist() == rows(3, 5).tolist()  # and the step after it goes to the means


def test_once_settled_passes_go_to_the_means_until_they_settle() -> None:
    second = Progress.at(1, rows(0, 0)).after(9.0, rows(1, 5), NONE, 1e-3, 100).after(8.0, rows(2, 5), NONE, 1e-3, 100)
    settled = second.after(7.999, rows(2.5, 5), NONE, 1e-3, 100)
    assert settled.ending
    assert not settled.done
    assert settled.centroids.tolist() == rows(2.5, 5).tolist()
    done = settled.after(7.998, rows(2.6, 5), NONE, 1e-3, 100)
    assert done.done
    assert done.centroids.tolist() == rows(2.5, 5).tolist()  # those whose labels and inertia the last pass found


def test_the_last_pass_of_those_allowed_is_at_means() -> None:
    progress, means = Progress.at(1, rows(0, 0)), 0
    while not progress.done:
        means += 1
        before = progress
        progress = progress.after(10.0 - means, rows(means, means), NONE, 1e-9, max_iter=3)
    assert len(progress.history) == 4
    assert not before.extrapolated


def test_clusters_that_were_given_frames_are_not_extrapolated() -> None:
    first = Progress.at(1, rows(0, 0)).after(9.0, rows(1, 5), np.array([False, True]), 1e-3, 100)
    second = first.after(8.0, rows(2, 6), NONE, 1e-3, 100)
    assert np.allclose(second.centroids, rows(2.9, 6))


def test_extrapolation_never_overflows() -> None:
    large = float(np.finfo(np.float32).max) * 0.9
    second = Progress.at(1, rows(0, 0)).after(9.0, rows(0, 0), NONE, 1e-3, 100)
    assert np.isfinite(second.after(8.0, rows(large, 1), NONE, 1e-3, 100).centroids).all()

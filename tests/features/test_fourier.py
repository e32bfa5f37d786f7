from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.features.fourier import PowerSpectrum


@given(st.integers(2, 12), st.integers(0, 10_000), st.data())
def test_power_spectra_are_those_of_numpys_transform(exponent: int, seed: int, data: st.DataObject) -> None:
    size = 1 << exponent
    length, count = data.draw(st.integers(size // 2 + 1, size)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(seed)
    taper = rng.random(length).astype(np.float32)
    samples, constants = rng.standard_normal((length, count)), rng.standard_normal(count)
    spectrum = PowerSpectrum(size, taper)
    workspace = spectrum.workspace(count)
    workspace[:] = np.nan  # what stood there before doesn't matter
    spectrum.windows(workspace, count)[:] = samples
    found = spectrum(workspace, constants.astype(np.float32))
    expected = np.abs(np.fft.rfft((samples - constants).T * taper, size)) ** 2
    assert found.shape == (size // 2, count)
    assert np.abs(found.T - expected[:, spectrum.bins]).max() < 3e-6 * expected.sum(axis=1).max()


@pytest.mark.parametrize("size", [4, 8, 256, 512, 1024, 2048])
def test_each_frequency_has_one_row_and_neighbours_stand_near(size: int) -> None:
    bins = PowerSpectrum(size, np.ones(size, np.float32)).bins
    assert sorted(bins) == list(range(size // 2))
    assert np.abs(bins - np.arange(size // 2)).max() < np.sqrt(size)


def test_fewer_windows_than_a_workspace_holds_are_transformed_like_others() -> None:
    spectrum = PowerSpectrum(64, np.hanning(50).astype(np.float32))
    workspace, samples = spectrum.workspace(20), np.random.default_rng(0).standard_normal((50, 7))
    spectrum.windows(workspace, 7)[:] = samples
    found = spectrum(workspace, np.zeros(7, np.float32)).copy()
    alone = spectrum.workspace(7)
    spectrum.windows(alone, 7)[:] = samples
    assert np.array_equal(spectrum(alone, np.zeros(7, np.float32)), found)

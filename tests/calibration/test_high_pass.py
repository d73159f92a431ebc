"""Noise behind high-pass filters: against convolutions, and the gain that it gives."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.signal import convolve2d

import fluogan_core as fg
from fluogan_core.calibration.high_pass import filtered_variances, leakage, noise_correlation, window_mean

ORDERS = (1, 2, 3, 5)


def kernel(order: int) -> np.ndarray:
    taps = np.array([(-1) ** k * comb(order, k) for k in range(order + 1)], dtype=float)
    whole = np.outer(taps, taps)
    return whole / np.sqrt((whole**2).sum())


def test_variances_are_those_of_convolved_differences_in_chunks_or_whole(monkeypatch):
    frames = np.random.default_rng(0).poisson(40.0, (23, 14, 17)).astype(np.uint16)
    whole = filtered_variances(frames, ORDERS)
    monkeypatch.setattr("fluogan_core.calibration.high_pass.default_memory_budget", lambda: 24 * 14 * 17 * 4)
    parts = filtered_variances(frames, ORDERS)
    change = np.diff(frames.astype(float), axis=0)
    for order in ORDERS:
        direct = np.mean([convolve2d(one, kernel(order), mode="valid") ** 2 for one in change], axis=0) / 2
        assert whole[order] == pytest.approx(direct, rel=1e-5)
        assert parts[order] == pytest.approx(direct, rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_white_noise_has_the_weighted_mean_of_its_variances_and_a_known_correlation(order):
    rng = np.random.default_rng(order)
    spread = np.linspace(1.0, 3.0, 24) * np.ones((20, 1))
    frames = spread * rng.standard_normal((4000, 20, 24))
    found = filtered_variances(frames, (order,))[order]
    assert found == pytest.approx(window_mean(spread**2, order), rel=0.15)
    assert found.mean() == pytest.approx(window_mean(spread**2, order).mean(), rel=0.01)
    one = np.array([convolve2d(frame, kernel(order), mode="valid") for frame in rng.standard_normal((2000, 20, 24))])
    beside = np.mean(one[:, :, :-1] * one[:, :, 1:]) / np.mean(one**2)
    assert beside == pytest.approx(noise_correlation(order)[order + 1], abs=0.01)


def test_noise_of_rows_and_columns_is_filtered_out():
    rng = np.random.default_rng(3)
    frames = 50.0 * rng.standard_normal((30, 16, 1)) + 50.0 * rng.standard_normal((30, 1, 18))
    assert all(variance.max() < 1e-6 for variance in filtered_variances(frames, ORDERS).values())


@pytest.mark.parametrize("order", [0, 1, 4])
def test_leakage_is_what_single_emissions_leave_behind_the_filter(order):
    psi = fg.Psi(fg.gaussian_psf(220, 100, 3), (24, 24), 3, backend="numpy")
    left = []
    for phase in np.ndindex(3, 3):
        x = np.zeros(psi.fine_shape, np.float32)
        x[36 + phase[0], 36 + phase[1]] = 1.0
        left.append((convolve2d(psi.forward(x).astype(float), kernel(order)) ** 2).sum())
    assert leakage(psi.table, order) == pytest.approx(np.mean(left), rel=1e-3)

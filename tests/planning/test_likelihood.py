"""What the full likelihood tells: scores against enumeration, its laws against mean and covariance, its stated error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import gammaln

import fluogan_core as fg
from fluogan_core.planning import likelihood, plan
from fluogan_core.planning.information import Distances, Model, Optics, Sight, profiles_of
from fluogan_core.planning.likelihood import LikelihoodPlan, NotSampled, sampled_separability
from fluogan_core.planning.scores import columns_of, sampled_scores
from fluogan_core.planning.short_lines import Image, ShortLines

OPTICS = Optics(fg.gaussian_psf(300, 120, 4), 120.0, 4)
EFFORT = {"start": 20, "notes": 10, "sweeps": 2}


def lines_of(photons: float, kappa: float, separation_nm: float = 120.0) -> tuple[ShortLines, Image]:
    """Short lines half way between a pair and the image nearest by mean and covariance, and their difference."""
    sight, model = Sight(photons, 3.0, kappa, 1.0, frames=1, length_nm=1000), Model(OPTICS)
    profile, bars = profiles_of(model, separation_nm, OPTICS)
    pair = Image(profile * photons / model.mean(profile).max(), np.full(model.columns, 3.0))
    other = Image(*Distances(model, pair.light, sight).nearest(bars, by_mean=False)[1:])
    return ShortLines(OPTICS, sight, model, pair.middle(other)), pair - other


@pytest.fixture(scope="module")
def few_and_bright() -> tuple[ShortLines, Image]:
    return lines_of(8.0, 150.0)


def test_scores_are_those_of_all_lists_of_emissions():
    """Two places, and a background that is free: every number of emissions at each of them is gone through."""
    psi = fg.Psi(fg.gaussian_psf(200, 100, 1), (13, 13), 1, photons_per_emitter=12.0, backend="numpy")
    x, places = np.zeros((13, 13)), np.array([83, 85])
    x.flat[places] = 0.7, 0.4
    groups = np.zeros((13, 13), dtype=np.int64)
    groups.flat[places] = 1, 2
    model, b = fg.ForwardModel(psi), np.full((13, 13), 0.5)
    found = sampled_scores(model, x, b, groups, np.zeros_like(groups), frames=300, start=20, notes=100, sweeps=2, seed=4)
    numbers = np.array([(i, j) for i in range(9) for j in range(9)])
    expected = x.ravel()[places]
    rate = numbers @ columns_of(psi, places) + 0.5
    prior = (numbers * np.log(expected) - expected - gammaln(numbers + 1)).sum(axis=1)
    y = found.counts.reshape(300, -1)
    logs = prior + y @ np.log(rate).T - rate.sum(axis=1)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    by_background = (weights[:, :, None] * (y[:, None] / rate - 1)).sum(axis=(1, 2))
    exact = np.concatenate([weights @ numbers / expected - 1, by_background[:, None]], axis=1)
    deviation = exact.std(axis=0)
    for sampled in (*found.cold, (found.early + found.late) / 2):
        assert np.all(np.sqrt(((sampled[:, 1:] - exact) ** 2).mean(axis=0)) < 0.2 * deviation)
    product = (found.cold[0] * found.cold[1])[:, 1:]
    assert product.mean(axis=0) == pytest.approx((exact**2).mean(axis=0), rel=0.05)


def test_moments_of_short_lines_are_those_of_their_frames(few_and_bright):
    """The best sum of mean and covariance scatters in frames as it is said to, and the metric is what it tells."""
    lines, change = few_and_bright
    counts = lines.model.sample(lines.x.astype("f4"), lines.b.astype("f4"), 20000, seed=3)
    told = lines.told(change, counts)
    assert told.of_frames.var() == pytest.approx(told.squared, rel=0.1)
    both = Image(np.stack([change.light, 2 * change.light]), np.stack([change.background, 0 * change.background]))
    metric = lines.metric(both, told.share)
    scores = lines.scores(counts, both, told.share)
    # without the scatter beyond that of Gaussian frames the variance of these scores is smaller than in frames
    gaussian = lines.metric(both, told.share**2)
    assert np.all(np.diagonal(gaussian) < 1.1 * scores.var(axis=0))
    assert metric[0, 0] == pytest.approx(told.squared, rel=0.1)


def test_the_likelihood_tells_more_and_no_more_than_the_emissions(few_and_bright):
    lines, change = few_and_bright
    scores = lines.sampled(frames=300, seed=1, **EFFORT)
    found, told = likelihood._information(lines, scores, change), lines.told(change)
    rate = change.light[lines.column] / lines.kappa
    known = float((rate**2 / lines.expected).sum()) + float(
        (np.tile(change.background, lines.rows) ** 2 / lines.b.ravel()).sum()
    )
    assert told.squared + 3 * found.error < found.squared < known
    assert found.apart < 0


def test_dim_emissions_tell_what_mean_and_covariance_tell():
    lines, change = lines_of(2.0, 4.0, 250.0)
    found = likelihood._information(lines, lines.sampled(frames=400, seed=2, **EFFORT), change)
    told = lines.told(change).squared
    assert found.squared == pytest.approx(told, abs=3 * found.error)
    bright, way = lines_of(2.0, 400.0, 250.0)
    sampled = likelihood._information(bright, bright.sampled(frames=400, seed=2, **EFFORT), way)
    assert sampled.squared > bright.told(way).squared + 3 * sampled.error


def test_the_stated_error_is_true_over_seeds(few_and_bright):
    lines, change = few_and_bright
    found = [
        likelihood._information(lines, lines.sampled(frames=80, seed=seed, start=10, notes=4, sweeps=2), change)
        for seed in range(40)
    ]
    squared, errors = np.array([(f.squared, f.error) for f in found]).T
    pulls = (squared - np.average(squared, weights=errors.mean() / np.ones(40))) / np.sqrt((errors**2).mean())
    assert 0.75 < pulls.std(ddof=1) < 1.3


def test_chains_that_do_not_mix_are_seen():
    """Bright emissions close together, and no time to find them."""
    lines, change = lines_of(400.0, 5000.0)
    found = likelihood._information(lines, lines.sampled(frames=200, seed=1, start=0, notes=2, sweeps=1), change)
    assert found.apart > likelihood._APART * found.squared


def test_what_cannot_be_sampled_is_refused_in_words(monkeypatch):
    with pytest.raises(NotSampled, match=r"emissions overlap each other, more than 8"):
        sampled_separability(150, OPTICS, Sight(200, 3, 5, 1, 500, 1000))
    monkeypatch.setattr(likelihood, "_MOST_PROPOSALS", 0.0)
    monkeypatch.setattr(likelihood, "_ERROR", 1e-3)
    with pytest.raises(NotSampled, match="at 120 nm the chains of emissions are too noisy"):
        sampled_separability(120, OPTICS, Sight(8, 3, 150, 1, 500, 1000))


def curve_of(monkeypatch, slope: float, at_300: float) -> LikelihoodPlan:
    """A plan from a power law in place of the chains."""

    def known(separation_nm, optics, sight, *, seed):
        deviations = at_300 * (separation_nm / 300) ** slope
        return likelihood.Sampled(deviations, 0.1 * deviations)

    monkeypatch.setattr(likelihood, "sampled_separability", known)
    sight = Sight(8, 3, 150, 1, 500, 1000)
    return likelihood.likelihood_plan(OPTICS, sight, 3.0, below_nm=300.0)


def test_the_finest_separation_and_its_error_follow_from_the_curve(monkeypatch):
    found = curve_of(monkeypatch, 2.0, 9.0)
    lines = [profiles_of(Model(OPTICS), separation, OPTICS)[0] for separation in found.separations_nm]
    assert all(np.count_nonzero(line > 1e-9) == 2 for line in lines), "each line is one fine pixel"
    assert found.finest_nm == pytest.approx(300 * math.sqrt(3 / 9))
    assert found.error_nm == pytest.approx(found.finest_nm * 0.1 / 2)
    frames, error = found.frames_for(200)
    assert frames == pytest.approx(500 * (3 / (9 * (200 / 300) ** 2)) ** 2)
    assert error == pytest.approx(0.2 * frames)
    with pytest.raises(ValueError, match="separation_nm must be"):
        found.frames_for(20)
    assert curve_of(monkeypatch, 2.0, 1e4).finest_nm == pytest.approx(150), "five fine pixels"
    assert curve_of(monkeypatch, 2.0, 1e4).error_nm == 0
    assert math.isinf(curve_of(monkeypatch, 2.0, 2.0).finest_nm)


def test_what_was_sampled_is_kept_where_something_finer_cannot_be(monkeypatch):
    def known(separation_nm, optics, sight, *, seed):
        if separation_nm < 250:
            raise NotSampled("too noisy there")
        return likelihood.Sampled(100.0, 1.0)

    monkeypatch.setattr(likelihood, "sampled_separability", known)
    found = likelihood.likelihood_plan(OPTICS, Sight(8, 3, 150, 1, 500, 1000), 3.0, below_nm=300.0)
    assert found.ended == "too noisy there"
    assert found.finest_nm == pytest.approx(found.separations_nm[0])
    assert found.error_nm == 0


SWITCHES = ("--pixel-size-nm", 120, "--fwhm-nm", 300, "--background", 3, "--photons-per-emitter", 150, "--likelihood")


@pytest.fixture
def few_points(monkeypatch):
    """The other two curves are tested elsewhere."""
    monkeypatch.setattr(plan, "_POINTS", 6)
    monkeypatch.setattr(plan, "_changes", lambda *_: ())


def test_the_command_says_it_with_its_error(fluogan, tmp_path, monkeypatch, few_points):
    monkeypatch.setattr(
        likelihood, "sampled_separability", lambda at, optics, sight, *, seed: likelihood.Sampled(at / 30, at / 300)
    )
    figure = tmp_path / "plan.png"
    status, out, err = fluogan("plan", *SWITCHES, "--photons", 8, "--separation-nm", 80, "--figure", figure)
    assert (status, err) == (0, "")
    assert "by the full likelihood" in out
    assert "90 ± 9 nm" in out
    assert "and 633 (± 127) by the full likelihood" in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    status, out, _ = fluogan("plan", *SWITCHES, "--photons", 8, "--separation-nm", 80, "--json")
    facts = json.loads(out)
    assert facts["likelihood"]["finest_nm"] == pytest.approx(90)
    assert facts["frames_needed"]["by_likelihood"] == pytest.approx(500 * (3 * 30 / 80) ** 2)


def test_the_command_says_why_not_and_gives_the_other_two(fluogan, few_points):
    status, out, err = fluogan("plan", *SWITCHES, "--photons", 800)
    assert (status, err) == (0, "")
    assert "by the full likelihood: not said" in out
    assert "as planned" in out

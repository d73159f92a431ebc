"""The plan: what it says, what it refuses, and the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fluogan_core as fg

PLANNED = dict(pixel_size_nm=110, fwhm_nm=300, photons=50, background=5, photons_per_emitter=10, frames=300)
SWITCHES = ("--pixel-size-nm", 110, "--fwhm-nm", 300, "--photons", 50, "--background", 5, "--photons-per-emitter", 10)


@pytest.fixture(scope="module")
def planned() -> fg.Plan:
    return fg.plan(**PLANNED)


def test_the_finest_separation_is_where_the_curve_passes_the_significance(planned):
    for finest, curve in ((planned.mean_nm, planned.by_mean), (planned.both_nm, planned.by_both)):
        above = planned.separations_nm[curve >= planned.significance][0]
        below = planned.separations_nm[curve < planned.significance][-1]
        assert below <= finest <= above
    assert planned.both_nm < planned.mean_nm


def test_frames_for_a_separation_are_those_that_a_plan_of_so_many_confirms(planned):
    by_mean, by_both = planned.frames_for(130.0)
    assert by_both < by_mean
    again = fg.plan(**PLANNED | {"frames": math.ceil(by_both)})
    assert again.both_nm == pytest.approx(130, rel=0.01)
    with pytest.raises(ValueError, match="separation_nm must be"):
        planned.frames_for(5000)


def test_more_light_and_more_frames_help_and_shorter_lines_do_not(planned):
    changes = {change.name: change for change in planned.changes}
    for name in ("twice the frames", "twice the light per frame", "half the background"):
        assert changes[name].mean_nm < planned.mean_nm
        assert changes[name].both_nm < planned.both_nm
    assert changes["lines of half the length"].both_nm > planned.both_nm
    twice = fg.plan(**PLANNED | {"frames": 600})
    assert changes["twice the frames"].both_nm == pytest.approx(twice.both_nm)


def test_a_perfect_camera_without_background_is_planned_for():
    perfect = fg.plan(**PLANNED | {"read_noise": 0, "background": 0})
    assert perfect.mean_nm < fg.plan(**PLANNED).mean_nm


def test_nothing_is_seen_without_light():
    dark = fg.plan(**PLANNED | {"photons": 0.01, "background": 50, "frames": 2})
    assert math.isinf(dark.mean_nm)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fwhm_nm": None}, "describe the PSF in one way"),
        ({"na": 1.2}, "describe the PSF in one way"),
        ({"photons": 0}, "photons must be greater than 0"),
        ({"frames": 1}, "frames must be at least 2"),
        ({"frames": 2.5}, "frames must be a whole number"),
        ({"pixel_size_nm": 1.0}, "are both in nanometres"),
        ({"fwhm_nm": 0.3}, "are both in nanometres"),
    ],
)
def test_what_cannot_be_planned_is_refused(changed, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fg.plan(**PLANNED | changed)


def test_a_pilot_stack_gives_the_plan_of_its_light():
    psi = fg.Psi(fg.gaussian_psf(300, 110, 4), (24, 24), 4, photons_per_emitter=10.0, backend="numpy")
    x = np.zeros(psi.fine_shape, "f4")
    x[:, 46:50] = 1.5
    frames = fg.ForwardModel(psi, gain=2.0, noise_std=3.0).sample(x, np.full((24, 24), 5, "f4"), 400, 1)
    found = fg.calibrate(frames, psi, camera=fg.Camera(2.0, 0.0, 3.0), photons_per_emitter=10, psf_width=1)
    pilot = fg.plan_from(found, 110, frames=300)
    brightest = float(psi.forward(x).max())
    assert pilot.conditions["photons"] == pytest.approx(brightest, rel=0.1)
    assert pilot.conditions["background"] == pytest.approx(5, rel=0.1)
    told = fg.plan(**PLANNED | {"photons": brightest, "read_noise": 1.5})
    assert pilot.both_nm == pytest.approx(told.both_nm, rel=0.05)


def test_a_pilot_of_unequal_pixels_gives_the_plan_of_such_a_camera():
    """Offsets that scatter by 0.8 photons, where 400 frames of some 20 photons are known to 0.25."""
    psi = fg.Psi(fg.gaussian_psf(300, 110, 4), (24, 24), 4, photons_per_emitter=10.0, backend="numpy")
    x = np.zeros(psi.fine_shape, "f4")
    x[:, 46:50] = 1.5
    frames = fg.ForwardModel(psi, gain=2.0, noise_std=3.0).sample(x, np.full((24, 24), 5, "f4"), 400, 1)
    frames = frames + 2.0 * np.random.default_rng(2).normal(0, 0.8, (24, 24))
    found = fg.calibrate(frames, psi, camera=fg.Camera(2.0, 0.0, 3.0), photons_per_emitter=10, psf_width=1)
    pilot = fg.plan_from(found, 110, frames=300, changes=False, likelihood=True)
    assert pilot.conditions["fixed_pattern"] == pytest.approx(0.8, rel=0.15)
    assert "pixels are unequal" in pilot.not_sampled
    # what the frames that it names tell is what counts as seen, and of the finest lines no number of them is enough
    by_mean, by_both = pilot.frames_for(190.0)
    for frames, curve in ((by_mean, "by_mean"), (by_both, "by_both")):
        again = fg.plan_from(found, 110, frames=round(frames), changes=False)
        told = np.exp(np.interp(np.log(190.0), np.log(again.separations_nm), np.log(getattr(again, curve))))
        assert told == pytest.approx(3.0, rel=0.03)
    assert math.isinf(pilot.frames_for(60.0)[0])
    assert math.isfinite(pilot.frames_for(60.0)[1])


def test_the_command_says_the_plan_and_the_frames_that_are_needed(fluogan, tmp_path):
    status, out, err = fluogan(
        "plan", *SWITCHES, "--planned-frames", 300, "--separation-nm", 130, "--figure", tmp_path / "plan.png"
    )
    assert (status, err) == (0, "")
    planned = fg.plan(**PLANNED)
    for words in (f"{planned.both_nm:.0f} nm", "130 nm need", "twice the frames"):
        assert words in out
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    status, out, err = fluogan("plan", *SWITCHES, "--planned-frames", 300, "--json")
    facts = json.loads(out)
    assert facts["both_nm"] == pytest.approx(planned.both_nm)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (("--fwhm-nm", 300), "give --pixel-size-nm, --photons, --photons-per-emitter, or a pilot stack with --pilot"),
        ((*SWITCHES, "--gain", 2), "--gain is used with --pilot only"),
        ((*SWITCHES, "--psf-pixel-nm", "nan"), "--psf-pixel-nm is used with --pilot only"),
        ((*SWITCHES, "--offset-map", "map.tif"), "--offset-map is used with --pilot only"),
        (("--pilot", "nowhere.tif", "--photons", 5), "--photons comes from the pilot stack"),
    ],
)
def test_the_command_refuses_what_is_missing_or_idle(fluogan, switches, message):
    status, _, err = fluogan("plan", *switches)
    assert status == 2
    assert message in err

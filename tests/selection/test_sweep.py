"""A sweep of options: what is scored was not fitted, differences have honest errors, and nothing done is lost."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import tifffile
from sweeps import CAMERA, FRAMES, FWHM, MEAN, SHAPE, operator, record, tried

import fluogan_core as fg
from fluogan_core.io.sweep_report import sweep_rows
from fluogan_core.metrics.prediction import held_out_score
from fluogan_core.selection import trials
from fluogan_core.selection.grid import MOST_SETTINGS, parted, plan_sweep
from fluogan_core.selection.trials import ScoreGap, paired_difference
from fluogan_core.tuning import DEFAULT

# -- the halves, and what is scored on them -----------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [*range(16, 90), 199, 200, 500, 501])
def test_halves_are_blocks_in_turn_that_a_steady_trend_hits_alike(frames):
    blocks, halves = parted(frames)
    lengths = np.bincount(blocks)
    assert (np.diff(blocks) >= 0).all()
    assert len(lengths) % 4 == 0
    assert lengths.min() >= 2
    assert np.ptp(lengths) <= 1
    order = [set(halves[blocks == block]) for block in range(len(lengths))]
    assert order == [{0}, {1}, {1}, {0}] * (len(lengths) // 4)
    # in blocks of equal length the two mean times are the same; a block's edge is rounded by half a frame at most
    times = [np.flatnonzero(halves == half).mean() for half in (0, 1)]
    assert abs(times[0] - times[1]) <= (1e-9 if np.ptp(lengths) == 0 else 1.0)


def test_frames_are_scored_by_the_fit_that_never_saw_them(finished_sweep):
    stack, psi = record(), operator()
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    fit, images = finished_sweep.trials[0].fit, []
    for half in (0, 1):
        seen = finished_sweep.halves == half
        result = fg.reconstruct(stack[seen], psi=psi, camera=CAMERA, options=finished_sweep.trials[0].options)
        score = held_out_score(stack[~seen] - np.float32(100), model, result.x, result.b)
        np.testing.assert_array_equal(fit.frame_log_density[~seen], score.frame_log_density)
        images.append(result.x)
    np.testing.assert_array_equal(fit.x, 0.5 * (images[0] + images[1]))
    assert fit.agreement == pytest.approx(np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1])
    assert fit.log_density == fit.frame_log_density.mean()


def test_a_frame_does_not_touch_the_score_of_others_in_its_half(finished_sweep):
    stack, altered = record(), 30
    stack[altered] *= 1.5
    before = finished_sweep.trials[0].fit.frame_log_density
    after = tried(stack, {"detail": (0.2,), "sparsity": (0.5,)}).trials[0].fit.frame_log_density
    mine = finished_sweep.halves == finished_sweep.halves[altered]
    same = mine & (np.arange(FRAMES) != altered)
    np.testing.assert_array_equal(after[same], before[same])
    assert after[altered] < before[altered]
    assert (after[~mine] != before[~mine]).all()


# -- differences and their errors ---------------------------------------------------------------------------------------


def test_the_difference_is_that_of_the_means_and_its_error_that_of_blocks(rng):
    a, b = rng.normal(size=(2, 60))
    blocks = np.repeat(np.arange(12), 5)
    mean, error = paired_difference(a, b, blocks)
    means = (a - b).reshape(12, 5).mean(axis=1)
    assert mean == pytest.approx(a.mean() - b.mean())
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(12))
    assert paired_difference(a, a, blocks) == (0.0, 0.0)


def test_frames_that_vary_together_do_not_pass_for_many(rng):
    """Differences that are constant within blocks: the mean of K blocks has variance 1 / K, whatever their length."""
    blocks, draws = np.repeat(np.arange(20), 7), 2000
    values = rng.normal(size=(draws, 20))[:, blocks]
    errors = np.array([paired_difference(v, np.zeros(140), blocks)[1] for v in values])
    # chi square of 19 degrees of freedom: the mean of the squares is known to sqrt(2 / 19 / draws)
    assert (errors**2).mean() == pytest.approx(1 / 20, rel=5 * np.sqrt(2 / 19 / draws))


def test_trials_are_behind_the_best_by_nats_per_frame_of_the_field(finished_sweep):
    scores = [trial.fit.log_density for trial in finished_sweep.trials]
    assert finished_sweep.best == int(np.argmax(scores))
    for index, score in enumerate(scores):
        lag = finished_sweep.behind(index)
        assert lag.difference == pytest.approx(120 * (max(scores) - score), abs=1e-9)
        assert lag.told_apart == (lag.difference > 2 * lag.error)
    # without any light in x the line stays unexplained
    assert not finished_sweep.trials[1].fit.x.any()
    assert finished_sweep.trials[1].fit.agreement is None
    assert finished_sweep.behind(1).told_apart


@pytest.mark.parametrize(
    ("lag", "text"),
    [
        (ScoreGap(10.47, 0.21), "10.5 ± 0.2"),
        (ScoreGap(0.0512, 0.031), "0.05 ± 0.03"),
        (ScoreGap(93.7, 2.2), "94 ± 2"),
        (ScoreGap(0.0, 0.0), "0"),
    ],
)
def test_a_lag_is_spelled_to_the_digit_of_its_error(lag, text):
    assert str(lag) == text


def test_the_true_width_of_the_psf_predicts_best():
    """Through a blur a somewhat narrower PSF would: the image may not be as sharp as the line."""
    options, widths = dataclasses.replace(MEAN, warm_steps=300, detail=0.0), (200.0, FWHM, 280.0)
    stack = record(400, (16, 16), brightness=20.0, background=30.0)
    swept = tried(stack, {"fwhm_nm": widths}, psi=operator((16, 16)), options=options, pixel_size_nm=100)
    assert [trial.values for trial in swept.trials] == [{"fwhm_nm": width} for width in widths]
    assert swept.best == 1
    assert all(swept.behind(index).told_apart for index in (0, 2))


# -- the grid -----------------------------------------------------------------------------------------------------------


def test_the_usual_grid_lies_about_what_the_options_say():
    def usual(**chosen) -> dict[str, tuple]:
        return plan_sweep(record(), psi=operator(), options=dataclasses.replace(MEAN, **chosen)).vary

    assert usual(detail=0.3, total_variation=0.02) == {"detail": (0.15, 0.3, 0.45), "total_variation": (0.006, 0.02, 0.06)}
    assert usual(detail=0.8)["detail"] == (0.4, 0.8, 1.0)
    assert usual(total_variation=0.0)["total_variation"] == (0.0,)
    default = plan_sweep(record(), psi=operator())
    assert default.options == fg.SolverOptions(method="none")
    assert default.options in [options for _, options, _ in default.settings]
    assert len(default.settings) == 9


def test_all_combinations_are_tried_and_the_last_name_varies_fastest(finished_sweep):
    assert [trial.label for trial in finished_sweep.trials] == [
        "detail=0.2, sparsity=0.5",
        "detail=0.2, sparsity=10000",
        "detail=0.5, sparsity=0.5",
        "detail=0.5, sparsity=10000",
    ]
    for trial in finished_sweep.trials:
        assert trial.options == dataclasses.replace(MEAN, **trial.values)


def test_words_and_whole_numbers_can_be_varied():
    plan = plan_sweep(record(), psi=operator(), vary={"method": ("none", "linear"), "warm_steps": (5.0, 7)})
    assert [(o.method, o.warm_steps) for _, o, _ in plan.settings] == [("none", 5), ("none", 7), ("linear", 5), ("linear", 7)]
    assert all(type(options.warm_steps) is int for _, options, _ in plan.settings)
    assert plan_sweep(record(), psi=operator(), options=fg.SolverOptions(), vary={"steps": (1, 2)})


#: Values away from the defaults.
OTHER = {
    "steps": 3, "critic_steps": 2, "batch": 5, "gradient_frames": 7, "relaxation": 0.5, "fidelity": 3.0, "learning_rate": 1e-2,
    "penalty": 1.0, "channels": 3, "depth": 1, "held_out": 0.3, "seed": 5, "warm_steps": 9, "sparsity": 4.0, "smoothness": 2.0,
    "smoothness_order": 1, "detail": 0.6, "tolerance": 0.1, "total_variation": 0.05,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_an_option_is_idle_where_it_changes_nothing(name):
    """An idle one is refused; were it let through, the image would be the same."""

    def image(**chosen) -> np.ndarray:
        options = dataclasses.replace(MEAN)
        for option, value in chosen.items():
            object.__setattr__(options, option, value)  # past the refusal
        return fg.reconstruct(record(), psi=operator(), camera=CAMERA, options=options).x

    base = image()
    change = float(np.abs(image(**{name: OTHER[name]}) - base).max() / base.max())
    # a weight of the whole objective changes how its float32 terms are rounded, over 25 steps
    assert (change < 1e-4) == (name in MEAN.idle), change
    if name in MEAN.idle - {"seed"}:
        with pytest.raises(ValueError, match=f"method='none' does not use {name}; leave it out, or take"):
            dataclasses.replace(MEAN, **{name: OTHER[name]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vary": {"magic": (1,)}}, "'magic' cannot be varied; what can is method, warm_steps, .*fwhm_nm"),
        ({"vary": {}}, "vary is empty"),
        ({"vary": {"detail": ()}}, "detail has no values"),
        ({"vary": {"detail": 0.2}}, "the values of detail must be a list, got 0.2"),
        ({"vary": "detail"}, "vary must be a dict of options and their values"),
        ({"vary": {"method": "none"}}, "the values of method must be a list, got 'none'"),
        ({"vary": {"detail": ("fine",)}}, "detail must be a number, got str 'fine'"),
        ({"vary": {"detail": (float("nan"),)}}, "detail must be finite"),
        ({"vary": {"detail": (0.2, 3)}}, "detail must be at least 0 and at most 1, got 3"),
        ({"vary": {"detail": (0.2, 0.3, 0.2)}}, "detail lists 0.2 twice"),
        ({"vary": {"smoothness_order": (1.5,)}}, "smoothness_order must be a whole number, got 1.5"),
        ({"vary": {"method": ("none", "best")}}, "method must be one of"),
        ({"vary": {"steps": (5, 10)}}, "steps changes nothing with method='none': take method='moments' too"),
        (
            {"vary": {"penalty": (5, 10)}, "options": fg.SolverOptions()},
            "take method='corrected' too",
        ),
        ({"vary": {"fwhm_nm": (-1,)}, "pixel_size_nm": 100}, "fwhm_nm must be greater than 0"),
        ({"vary": {"fwhm_nm": (3000,)}, "pixel_size_nm": 100}, "larger than the field"),
        ({"vary": {"fwhm_nm": (300,)}}, "fwhm_nm cannot be varied without the pixel size"),
        ({"vary": {"detail": np.arange(1, 6) / 10, "sparsity": range(13)}}, r"the grid has 65 settings \(5 x 13\), at most 64"),
        ({"stack": record(15)}, "at least 16 frames, to fit some and score others, got 15"),
        ({"stack": np.ones((20, 8, 8))}, "build psi for the shape of the frames"),
        ({"stack": np.full((20, *SHAPE), np.nan)}, "NaN or infinite"),
    ],
)
def test_bad_input_is_named_before_any_work(change, message, monkeypatch):
    def work(*arguments, **options):
        pytest.fail("work was begun")

    for name in ("Problem", "Solver"):
        monkeypatch.setattr(trials, name, work)
    with pytest.raises((ValueError, TypeError), match=message):
        fg.sweep(**({"stack": record(16), "psi": operator()} | change))


def test_a_grid_just_small_enough_is_planned():
    plan = plan_sweep(record(), psi=operator(), vary={"detail": np.arange(1, 9) / 10, "sparsity": range(8)})
    assert len(plan.settings) == MOST_SETTINGS


# -- failures, interruption, remarks ------------------------------------------------------------------------------------


def test_without_a_camera_the_whole_stack_is_calibrated_once():
    stack = record(100)
    found = fg.calibrate(stack, operator())
    swept = tried(stack, {"detail": (0.3,)}, camera=None)
    assert swept.camera == found.camera
    assert swept.psi.photons_per_emitter == found.estimate.photons_per_emitter != operator().photons_per_emitter
    again = tried(stack, {"detail": (0.3,)}, camera=None, psi=None, calibration=found)
    np.testing.assert_array_equal(again.trials[0].fit.x, swept.trials[0].fit.x)
    assert again.psi is found.psi


def test_frames_that_stand_apart_are_no_part_of_the_halves():
    counts = np.clip(np.rint(record(60)), 0, 65535).astype(np.uint16)
    spoiled = np.insert(counts, [7, 40], 0, axis=0)
    found = fg.calibrate(spoiled, operator(), camera=CAMERA, photons_per_emitter=6, psf_width=1)
    assert found.left_out == (7, 41)
    vary = {"detail": (0.2, 0.5)}
    clean, swept = (
        tried(frames, vary, psi=None, camera=None, calibration=calibration)
        for frames, calibration in ((counts, dataclasses.replace(found, left_out=())), (spoiled, found))
    )
    assert [trial.failure for trial in swept.trials] == ["", ""]
    assert len(swept.halves) == len(swept.blocks) == 60
    for one, other in zip(clean.trials, swept.trials):
        np.testing.assert_array_equal(one.fit.x, other.fit.x)
        assert one.fit.log_density == other.fit.log_density


def test_a_width_that_is_varied_is_not_measured(monkeypatch):
    def measure(statistics, psi, tuning):
        pytest.fail("the width was measured")

    monkeypatch.setattr("fluogan_core.calibration.calibrate.width_from", measure)
    swept = tried(record(40), {"fwhm_nm": (150.0, 160.0)}, camera=None, pixel_size_nm=100.0)
    assert [trial.failure for trial in swept.trials] == ["", ""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "psi= is needed, the operator, or calibration="),
        ({"psi": True, "calibration": True}, "leave psi= and camera= out"),
        ({"camera": True, "calibration": True}, "leave psi= and camera= out"),
    ],
)
def test_what_is_calibrated_is_given_in_one_way(arguments, message):
    stack = record(20)
    things = {"psi": operator(), "camera": fg.Camera(), "calibration": fg.calibrate(stack, operator(), gain=1, psf_width=1)}
    with pytest.raises(TypeError, match=message):
        fg.sweep(stack, **{name: things[name] for name in arguments})


@pytest.fixture
def failing(monkeypatch) -> None:
    """Let settings of detail 0.5 fail."""
    fit = trials._cross_fit

    def cross_fit(problem, halves, psi, options, tuning):
        if options.detail == 0.5:
            raise FloatingPointError("not\nfinite")
        return fit(problem, halves, psi, options, tuning)

    monkeypatch.setattr(trials, "_cross_fit", cross_fit)


def test_a_setting_that_fails_says_why_and_the_others_go_on(failing, caplog, tmp_path):
    with caplog.at_level(logging.WARNING, logger="fluogan_core"):
        swept = tried(record(), {"detail": (0.2, 0.5, 0.7)})
    assert [trial.failure for trial in swept.trials] == ["", "FloatingPointError: not finite", ""]
    assert "detail=0.5 failed: FloatingPointError: not finite" in caplog.text
    assert swept.behind(1) is None
    assert swept.best in (0, 2)
    assert sweep_rows(swept)[1][-1] == "failed"
    files = fg.write_sweep(swept, tmp_path)
    with tifffile.TiffFile(files["x"]) as tif:
        assert tif.imagej_metadata["Labels"] == ["1: detail=0.2", "3: detail=0.7"]
    settings = json.loads(files["report"].read_text())["settings"]
    assert [entry.get("page") for entry in settings] == [1, None, 2]
    assert settings[1]["failure"] == "FloatingPointError: not finite"


def test_where_every_setting_fails_there_is_a_report_alone(failing, tmp_path):
    swept = tried(record(), {"detail": (0.5,)})
    assert swept.best is None
    assert swept.notes == ()
    assert set(fg.write_sweep(swept, tmp_path)) == {"report"}
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] is None
    with pytest.raises(ValueError, match="no setting of this sweep has an image"):
        fg.plot.contact_sheet(swept)


def test_the_callback_gets_every_setting_and_can_stop(tmp_path):
    seen: list[int] = []

    def stop(swept: fg.Sweep) -> None:
        seen.append(len(swept.trials))
        fg.write_sweep(swept, tmp_path, figure=False)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tried(record(), {"detail": (0.2, 0.3, 0.4)}, callback=stop)
    assert seen == [1, 2]
    assert tifffile.imread(tmp_path / "sweep.tif").shape == (2, 24, 20)
    assert json.loads((tmp_path / "sweep.json").read_text())["planned"] == 3


def test_a_pattern_that_every_frame_has_is_warned_of_once(rng, caplog):
    """Columns of unequal gain: the mean frame holds them, the fluctuations do not explain them."""
    psi = fg.Psi(fg.gaussian_psf(400, 100, 2, truncate=3), (16, 16), 2, backend="numpy")
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.5)
    frames = model.sample(np.full(psi.fine_shape, 3.0), np.ones(psi.shape), 60, seed=1)
    frames = frames * (1 + 0.2 * rng.normal(size=(16, 16)).astype(np.float32)) + 100
    with caplog.at_level(logging.INFO, logger="fluogan_core"):
        swept = tried(frames, {"detail": (0.2, 0.4, 0.6)}, psi=psi)
    assert caplog.text.count("times noisier than its fluctuations explain") == 1
    assert len(swept.notes) == 1
    assert "trust the pictures" in swept.notes[0]
    assert not logging.getLogger("fluogan_core").filters


def test_a_best_value_at_the_end_of_those_tried_is_remarked(finished_sweep):
    assert any(note.startswith("the best sparsity, 0.5, is the smallest") for note in finished_sweep.notes)
    assert tried(record(), {"detail": (0.2,)}).notes == ()
    best = dataclasses.replace(finished_sweep.trials[0], values={"sparsity": 0.0})
    assert dataclasses.replace(finished_sweep, vary={"sparsity": (0.0, 1.0)}, trials=[best]).notes == ()


def test_numbers_by_trial_reach_the_plan_and_the_fits():
    tuning = dataclasses.replace(
        DEFAULT,
        sweep=dataclasses.replace(DEFAULT.sweep, blocks=8, detail=(1.0, 2.0), total_variation=(1.0,)),
        mean_phase=dataclasses.replace(DEFAULT.mean_phase, most=11),
    )
    options = fg.SolverOptions(method="none")
    stack, camera = record(), fg.Camera()
    swept = fg.sweep(stack, psi=operator(), camera=camera, options=options, tuning=tuning)
    assert [trial.values["detail"] for trial in swept.trials] == [options.detail, 2 * options.detail]
    assert swept.blocks.max() == 7
    few = dataclasses.replace(options, warm_steps=11)
    expected = fg.sweep(stack, psi=operator(), camera=camera, options=few, vary=swept.vary, tuning=tuning)
    np.testing.assert_array_equal(swept.trials[0].fit.x, expected.trials[0].fit.x)

"""The command line: what it writes, and what it refuses and how."""

from __future__ import annotations

import dataclasses
import json

import click
import numpy as np
import pytest
import tifffile
from refusals import assert_refused

import fluogan_core as fg
from fluogan_core.backend import arrays as backend
from fluogan_core.cli import commands as cli
from fluogan_core.cli import options as _switches
from fluogan_core.critics.estimators import estimator_names
from fluogan_core.io.files import write_image
from fluogan_core.io.stack import read_stack
from fluogan_core.simulation import experiment as demo

OPTICS = ("--pixel-size-nm", 100, "--fwhm-nm", 150)
CAMERA = ("--gain", 2, "--offset", 100, "--noise-std", 3, "--photons-per-emitter", 5)
#: A short run: the mean fit and a few steps with a small share of the default work.
QUICK = ("--factor", 2, "--method", "linear", "--warm-steps", 15)


# -- help ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "simulate", "estimate", "reconstruct", "sweep", "info"])
def test_help_states_the_unit_of_every_number(fluogan, name):
    status, out, err = fluogan(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: fluogan {name}")
    for option in cli.commands.commands[name].params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            if option.type is click.FLOAT:
                assert "[" in option.help.split("[default")[0], f"{option.name} has no unit"


def test_without_a_command_and_with_version(fluogan):
    assert "Commands:" in fluogan()[1]
    assert fluogan("--version")[:2] == (0, f"fluogan, version {fg.__version__}\n")


def test_switches_agree_with_the_library():
    assert set(_switches.METHODS) == {*estimator_names(), "moments", "likelihood", "auto", "none"}
    assert set(_switches.SOLVER_OPTIONS) <= {field.name for field in dataclasses.fields(fg.SolverOptions)}
    says = {
        option.name: option.help for option in cli.commands.commands["reconstruct"].params if isinstance(option, click.Option)
    }
    for name in set(_switches.SOLVER_OPTIONS) - {"method", "warm_steps", "smoothness"}:  # the stack chooses the last two
        assert says[name].endswith(f"[default: {getattr(fg.SolverOptions(), name):g}]"), name
    simulated = {p.name for p in cli.commands.commands["simulate"].params} - {"output", "verbose"}
    assert simulated == {field.name for field in dataclasses.fields(demo.Experiment)}
    defaults = {p.name: p.default for p in cli.commands.commands["simulate"].params if p.name in simulated}
    defaults["separations_nm"] = tuple(float(v) for v in defaults["separations_nm"].split(","))
    assert defaults["size"] is None or not isinstance(defaults.pop("size"), tuple)
    defaults["size"] = None
    assert demo.Experiment(**defaults) == demo.Experiment()


# -- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command"),
        (("reconstruct", "{stack}"), "--output"),
        (("reconstruct", "--output", "{out}"), "STACK.tif"),
        (("reconstruct", "none.tif", "--output", "{out}", *OPTICS), "there is no file none.tif"),
        (("reconstruct", "{stack}", "--output", "{stack}", *OPTICS), "a file of that name is in the way"),
        (("reconstruct", "{stack}", "--output", "{out}"), "describe the PSF in one way"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--na", 1.4), "describe the PSF in one way"),
        (("reconstruct", "{stack}", "--output", "{out}", "--na", 1.4), "both --wavelength-nm and --na"),
        (("reconstruct", "{stack}", "--output", "{out}", "--psf", "none.npy"), "there is no file none.npy"),
        (("reconstruct", "{stack}", "--output", "{out}", "--psf", "{stack}"), "must hold one grey image"),
        (("reconstruct", "{stack}", "--output", "{out}", "--psf", "{bead}"), "give --psf-pixel-nm (the stack's are 100 nm"),
        (("reconstruct", "{stack}", "--output", "{out}", "--psf", "{bead}", "--psf-pixel-nm", 0.1), "must be at least 0.5"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--psf-pixel-nm", 50), "the pixel of the image in --psf"),
        (("estimate", "{stack}", "--psf-pixel-nm", 50), "describe the PSF in one way"),
        (("reconstruct", "{stack}", "--output", "{out}", "--fwhm-nm", "wide"), "--fwhm-nm"),
        (("reconstruct", "{stack}", "--output", "{out}", "--fwhm-nm", 0.318), "are both in nanometres?"),
        (("estimate", "{stack}", "--fwhm-nm", 318, "--pixel-size-nm", 0.1), "are both in nanometres?"),
        (("estimate", "{stack}", "--wavelength-nm", 525, "--na", 14), "na must be greater than 0 and at most 2, got 14"),
        (("reconstruct", "{stack}", "--output", "{out}", "--fwhm-nm", -3), "fwhm_nm must be greater than 0"),
        (("reconstruct", "{stack}", "--output", "{out}", "--fwhm-nm", 5000), "larger than the field"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--factor", 0), "factor must be at least 1"),
        (
            ("reconstruct", "{stack}", "--output", "{out}", "--pixel-size-nm", 0),
            "--pixel-size-nm must be greater than 0",
        ),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--roi", "1,2,3"), "T,L,R,C"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--roi", "0,0,99,9"), "reaches outside"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--frames", "a:b"), "A:B"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--frames", "10:99"), "reach outside"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--steps", -1), "steps must be at least 0"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--method", "magic"), "--method"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--gain", 0), "gain"),
        (("reconstruct", "{stack}", "--output", "{out}", *OPTICS, "--resume"), "to resume from"),
        (("reconstruct", "{silent}", "--output", "{out}", "--fwhm-nm", 150), "give --pixel-size-nm"),
        (("sweep", "{stack}", *OPTICS), "--output"),
        (("sweep", "{stack}", "--output", "{out}"), "describe the PSF in one way"),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail"), "'detail' is not NAME=v1,v2,..."),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "=1,2"), "'=1,2' is not NAME=v1,v2,..."),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "magic=1"), "'magic' cannot be varied; what can is"),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail="), "detail has no values"),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail=0.1,,"), "detail must be a number, got str ''"),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail=0.1,low"), "must be a number, got str 'low'"),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail=0.1,2"), "at most 1, got 2"),
        (
            ("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "steps=1,2"),
            "steps changes nothing with",
        ),
        (
            ("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", "detail=0.1", "--vary", "detail=0.2"),
            "--vary names detail twice",
        ),
        (
            ("sweep", "{stack}", "--output", "{out}", *OPTICS, "--vary", f"sparsity={','.join(map(str, range(65)))}"),
            "the grid has 65 settings",
        ),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--frames", ":15"), "at least 16 frames"),
        (
            ("sweep", "{stack}", "--output", "{out}", "--wavelength-nm", 500, "--na", 1.4, "--vary", "fwhm_nm=150"),
            "give --fwhm-nm, which the camera is estimated with",
        ),
        (("estimate", "{silent}", "--fwhm-nm", 150), "give --pixel-size-nm"),
        (("estimate", "{stack}", "--offset", "nan"), "offset"),
        (("estimate", "{stack}", *OPTICS, "--psf-width", 0), "psf_width must be at least 0.1"),
        (("estimate", "{stack}", "--psf-width", 1.1), "describe the PSF in one way"),
        (
            ("sweep", "{stack}", "--output", "{out}", *OPTICS, "--psf-width", 1.1, "--vary", "fwhm_nm=150"),
            "leave --psf-width out",
        ),
        (("sweep", "{stack}", "--output", "{out}", *OPTICS, "--psf-width", "wide"), "--psf-width"),
        (("simulate", "--output", "{out}", "--separations-nm", "180,x"), "NM,NM"),
        (("simulate", "--output", "{out}", "--separations-nm", "50"), "separations_nm[0] must be at least 100"),
        (("simulate", "--output", "{out}", "--size", "5,5"), "take a larger shape"),
        (("simulate", "--output", "{out}", "--frames", 1), "frames must be at least 2"),
        (("simulate", "--output", "{out}", "--brightness", 0), "brightness must be greater than 0"),
    ],
)
def test_bad_usage_and_input_is_one_line_and_status_2(fluogan, recording, tmp_path, arguments, message):
    silent = write_image(tmp_path / "silent.tif", tifffile.imread(recording))
    np.save(tmp_path / "bead.npy", fg.gaussian_psf(150, 100, 4))
    places = {"stack": recording, "silent": silent, "bead": tmp_path / "bead.npy", "out": tmp_path / "out"}
    assert_refused(fluogan(*(str(part).format(**places) for part in arguments)), 2, message)
    assert not list((tmp_path / "out").glob("*"))


def test_a_bead_is_sampled_on_the_fine_grid_by_its_files_pixel_or_by_the_switch(fluogan, recording, tmp_path):
    bead = fg.gaussian_psf(300, 100, 5)
    said = write_image(tmp_path / "said.tif", bead.astype(np.float32), pixel_size_nm=20)
    silent, wrong = tmp_path / "silent.npy", tmp_path / "wrong.tif"
    np.save(silent, bead)
    write_image(wrong, bead.astype(np.float32), pixel_size_nm=100)
    pixel = ("--psf-pixel-nm", 20)
    prints = [
        fluogan("estimate", recording, "--psf", *words, "--factor", 2, "--psf-width", 1, "--json")
        for words in ((said,), (silent, *pixel), (wrong, *pixel))
    ]
    assert all(status == 0 for status, _, _ in prints), prints
    gaussian = fluogan("estimate", recording, "--fwhm-nm", 300, "--factor", 2, "--psf-width", 1, "--json")[1]
    for _, out, _ in prints:
        found, wanted = (json.loads(text)["photons_per_emitter"] for text in (out, gaussian))
        assert found == pytest.approx(wanted, rel=0.04)


def test_a_device_that_is_not_there_is_status_1(fluogan, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "why_no_gpu", lambda: "no CUDA device is visible")
    done = fluogan("reconstruct", recording, "--output", tmp_path, *OPTICS, "--backend", "cupy")
    assert_refused(done, 1, "no CUDA device is visible")


def test_failure_is_one_line_and_status_1_and_verbose_shows_the_trace(fluogan, recording, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise FloatingPointError("the critic's gradient\nis not finite")

    monkeypatch.setattr("fluogan_core.solvers.reconstruct.reconstruct", fail)
    command = ("reconstruct", recording, "--output", tmp_path, *OPTICS, *CAMERA)
    assert_refused(fluogan(*command), 1, "FloatingPointError: the critic's gradient is not finite (--verbose shows where)")
    status, _, err = fluogan(*command, "--verbose")
    assert status == 1
    assert "Traceback" in err
    assert err.splitlines()[-1] == "fluogan: error: FloatingPointError: the critic's gradient is not finite"


def test_a_matrix_that_cannot_be_inverted_is_no_bad_input(fluogan, recording, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr("fluogan_core.solvers.reconstruct.reconstruct", fail)
    command = ("reconstruct", recording, "--output", tmp_path, *OPTICS, *CAMERA)
    assert_refused(fluogan(*command), 1, "LinAlgError: Singular matrix")


def test_logging_is_left_as_it_was(fluogan, recording):
    import logging

    ours, theirs = logging.getLogger("fluogan_core"), logging.getLogger("tifffile")
    before = ours.level, list(ours.handlers), theirs.level
    fluogan("estimate", recording, "--verbose")
    assert (ours.level, list(ours.handlers), theirs.level) == before


# -- simulate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["blinking", "double-poisson"])
def test_simulated_files_are_the_same_for_the_same_seed(fluogan, tmp_path, model):
    common = ("simulate", "--model", model, "--size", "16,16", "--frames", 5, "--factor", 2)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        status, out, _ = fluogan(*common, "--output", tmp_path / folder, "--seed", seed)
        assert status == 0
        assert "stack.tif, truth.tif, truth.json" in out
    for name in ("stack.tif", "truth.tif", "truth.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a/stack.tif").read_bytes() != (tmp_path / "c/stack.tif").read_bytes()
    stack, truth = read_stack(tmp_path / "a/stack.tif"), tifffile.imread(tmp_path / "a/truth.tif")
    assert stack.frames.shape == (5, 16, 16)
    assert stack.frames.dtype == np.uint16
    assert stack.pixel_size_nm == 100
    assert truth.shape == (32, 32)
    facts = json.loads((tmp_path / "a/truth.json").read_text())
    assert facts["model"] == model
    assert facts["separations_nm"] == [180.0]
    assert facts["size"] == [16, 16]


def test_simulated_mean_is_that_of_the_stated_truth():
    """z-scores of the mean image against gain * (Psi x + b) + offset: their mean square is 1 within 5 standard errors."""
    made = demo.Experiment(
        model="double-poisson", size=(20, 16), frames=400, factor=2, photons_per_emitter=4.0, brightness=60.0
    )
    recorded = made.record()
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (20, 16), 2, photons_per_emitter=4.0, backend="numpy")
    expected = made.gain * (psi.forward(recorded.x) + recorded.background)
    frames = recorded.frames.astype(float) - made.offset
    z = (frames.mean(axis=0) - expected) / np.sqrt(frames.var(axis=0, ddof=1) / len(frames))
    # pixels share emissions, so there are fewer independent z than pixels: about one per PSF area of 8 pixels
    independent = z.size / 8
    assert (z**2).mean() == pytest.approx(1, abs=5 * np.sqrt(2 / independent))
    assert expected.max() / made.gain - made.background == pytest.approx(60, rel=1e-6)


def test_blinking_brightness_is_as_asked_on_average():
    """The number of emitters is random: relative standard error sqrt(flicker of E emitters), averaged over seeds."""
    peaks = []
    for seed in range(8):
        made = demo.Experiment(size=(20, 16), frames=20, factor=2, brightness=80.0, seed=seed)
        psi = fg.Psi(
            fg.gaussian_psf(318, 100, 2),
            (20, 16),
            2,
            photons_per_emitter=made.record().photons_per_emitter,
            backend="numpy",
        )
        where = np.unravel_index(psi.forward(made.pattern().x).argmax(), psi.shape)
        peaks.append(float(psi.forward(made.record().x)[where]))
    assert np.mean(peaks) == pytest.approx(80, abs=5 * np.std(peaks, ddof=1) / np.sqrt(len(peaks)))


# -- estimate and info --------------------------------------------------------------------------------------------------


def test_estimate_prints_what_the_library_finds(fluogan, recording):
    status, out, _ = fluogan("estimate", recording, "--fwhm-nm", 150, "--factor", 2, "--gain", 2.2, "--json")
    assert status == 0
    found = json.loads(out)
    psi = fg.Psi(fg.gaussian_psf(150, 100, 2), (20, 16), 2, backend="numpy")
    expected = fg.estimate_camera(tifffile.imread(recording), psi, gain=2.2)
    assert found["gain"] == expected.camera.gain
    assert found["photons_per_emitter"] == expected.photons_per_emitter
    assert found["gain_error"] == expected.gain_error
    assert found["notes"] == list(expected.notes)
    assert found["psf_width"]["width"] == 1.0
    assert "width of the PSF" in found["psf_width"]["note"]


def test_the_width_of_the_psf_is_as_the_stack_says_or_as_given(fluogan, recording, tmp_path, monkeypatch):
    said = fg.PSFWidth(1.2, 1.2, 0.01, "width of the PSF: a fifth wider, says the stack")
    monkeypatch.setattr("fluogan_core.calibration.calibrate.width_from", lambda statistics, psi, tuning: said)
    stack, known = tifffile.imread(recording), {"gain": 2.2, "offset": 100, "noise_std": 3}
    asked = ("estimate", recording, "--fwhm-nm", 150, "--factor", 2, "--gain", 2.2, "--offset", 100, "--noise-std", 3)
    for width, given in ((1.2, ()), (1.0, ("--psf-width", 1)), (1.1, ("--psf-width", 1.1))):
        status, out, err = fluogan(*asked, "--json", *given)
        assert status == 0, err
        psi = fg.Psi(fg.gaussian_psf(150 * width, 100, 2), (20, 16), 2, backend="numpy")
        expected = fg.estimate_camera(stack, psi, **known)
        assert json.loads(out)["psf_width"]["width"] == width
        # a PSF stretched by splines
        assert json.loads(out)["photons_per_emitter"] == pytest.approx(expected.photons_per_emitter, rel=4e-2)
    assert "a fifth wider" in fluogan(*asked)[1]
    assert "width" not in fluogan("estimate", recording, "--offset", 100)[1]

    given = ("--gain", 2.2, "--offset", 100, "--no-figure")
    status, out, err = fluogan("reconstruct", recording, "--output", tmp_path, "--fwhm-nm", 150, *QUICK, *given)
    assert status == 0, err
    assert "a fifth wider" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["psf_width"] == {"width": 1.2, "measured": 1.2, "error": 0.01, "note": said.note}
    wanted = fg.gaussian_psf(150, 100, 2).shape[0]
    assert report["operator"]["psf_pixels"][0] == 2 * -(-(wanted // 2) * 12 // 10) + 1


def test_estimate_as_a_table_marks_what_was_given(fluogan, recording):
    status, out, _ = fluogan("estimate", recording, "--gain", 2.25, "--roi", "0,0,20,16", "--frames", ":40")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert "2.25" in rows["gain"]
    assert "given" in rows["gain"]
    assert "estimated" in rows["offset"]
    assert "needs a PSF" in rows["photons"]


def test_info_says_why_there_is_no_gpu(fluogan, monkeypatch):
    status, out, _ = fluogan("info", "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["no_gpu_because"] == backend.why_no_gpu()
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["memory_budget_bytes"] > 0
    assert facts["threads"]["usable"] >= 1
    assert facts["backend"] == fg.get_backend("auto").name
    table = fluogan("info")[1]
    assert facts["device"] in table
    assert (facts["no_gpu_because"] or "cuda").split()[0] in table


# -- reconstruct --------------------------------------------------------------------------------------------------------


def test_reconstruct_writes_everything_it_says(fluogan, recording, tmp_path):
    out_folder = tmp_path / "results" / "deep"
    status, out, err = fluogan(
        "reconstruct", recording, "--output", out_folder, "--fwhm-nm", 150, *QUICK, "--steps", 1, "--seed", 3,
        "--roi", "0,2,20,12", "--frames", "5:55", "--offset", 100, "--gain", 2.2,
    )  # fmt: skip
    assert status == 0, err
    assert sorted(p.name for p in out_folder.iterdir()) == [
        "b.tif",
        "checkpoint.pt",
        "figure.png",
        "report.html",
        "report.json",
        "x.tif",
    ]
    report = json.loads((out_folder / "report.json").read_text())
    assert report["input"]["roi"] == [0, 2, 20, 12]
    assert report["input"]["frames"] == 50
    assert report["input"]["pixel_size_nm"] == 100
    assert report["parameters"]["method"] == "linear"
    assert report["parameters"]["seed"] == report["seed"] == 3
    assert report["camera"]["offset"] == 100
    assert report["camera_estimate"]["given"] == ["gain", "offset"]
    assert report["operator"]["photons_per_emitter"] == report["camera_estimate"]["photons_per_emitter"]
    assert len(report["history"]["phase"]) == report["result"]["steps"]
    assert report["versions"]["torch"]
    x, b = tifffile.imread(out_folder / "x.tif"), tifffile.imread(out_folder / "b.tif")
    assert x.shape == (40, 24)
    assert b.shape == (20, 12)
    assert x.min() >= 0
    assert b.min() >= 0
    assert "wrote x.tif, b.tif, report.json, report.html, figure.png, checkpoint.pt" in out
    assert "given" in out
    assert "computing on" in err


@pytest.mark.parametrize("kind", ["airy", "npy", "tif"])
def test_other_psfs_and_binning(fluogan, recording, tmp_path, kind):
    psf = fg.airy_psf(200, 0.8, 100, 2, radius_nm=300)
    np.save(tmp_path / "psf.npy", psf)
    write_image(tmp_path / "psf.tif", psf, pixel_size_nm=50)
    optics = {
        "airy": ("--wavelength-nm", 200, "--na", 0.8),
        "npy": ("--psf", tmp_path / "psf.npy", "--psf-pixel-nm", 50),
        "tif": ("--psf", tmp_path / "psf.tif"),
    }[kind]
    status, _, err = fluogan(
        "reconstruct", recording, "--output", tmp_path, *optics, *CAMERA, "--factor", 2, "--method", "none",
        "--warm-steps", 3, "--binning", "point", "--no-figure",
    )  # fmt: skip
    assert status == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["operator"]["binning"] == "point"
    assert not (tmp_path / "figure.png").exists()

"""The page of report: everything of the report is on it, in valid HTML that needs nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.io.advice import ADVICE, advice_for
from fluogan_core.io.page_commands import sweep_command

SOURCES = Path(fg.__file__).parent
#: Elements of HTML that have no end.
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Walk(HTMLParser):
    """The text of a page, its addresses and its headings; fails where elements do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag == "img":
            self.pictures.append(dict(attrs))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def written(scene, folder, **settings):
    frames, found, result = scene
    given = {"stack": fg.Stack(frames, pixel_size_nm=100.0), "calibration": found} | settings
    files = fg.write_result(result, folder, **given)
    return files["page"].read_text(encoding="utf-8"), json.loads(files["report"].read_text(encoding="utf-8"))


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from leaves(entry)
    else:
        yield value


def test_every_remark_and_number_of_the_report_is_on_the_page(scene, tmp_path):
    frames, _, _ = scene
    stack = fg.Stack(frames, pixel_size_nm=100.0, notes=("its 3 pages were appended: <odd> & more",), left_out=(3, 17))
    command = ["fluogan", "reconstruct", "a b.tif", "--output", "out"]
    page, report = written(scene, tmp_path, stack=stack, command=command, figure=False)
    text = Walk(page).text
    remarks = [*report["input"]["notes"], *report["remarks"], *report["camera_estimate"]["notes"], report["psf_width"]["note"]]
    assert len(report["remarks"]) >= 1
    for remark in remarks:
        assert f"The run said: {' '.join(remark.split())}" in text
        assert advice_for(remark).meaning in text
        assert advice_for(remark).next_step in text
    numbers = [leaf for leaf in leaves({k: v for k, v in report.items() if k != "history"}) if isinstance(leaf, (int, float))]
    assert len(numbers) > 50
    for number in numbers:
        assert json.dumps(number) in text
    assert "fluogan reconstruct 'a b.tif' --output out" in text
    assert "fluogan sweep 'a b.tif' --output out-sweep" in text
    assert "2: 3, 17" in text


def test_the_page_is_whole_html_that_loads_nothing(scene, tmp_path):
    page, _ = written(scene, tmp_path)
    walk = Walk(page)
    assert all(address.startswith("data:image/png;base64,") for address in walk.addresses)
    assert len(walk.pictures) == 3
    assert all(len(picture["alt"] or "") > 30 for picture in walk.pictures)
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r'src="data:[^"]*"', "", page))
    assert walk.headings == ["h1", *["h2"] * 7]
    assert re.search(
        r"two lines of 1 µm can be told apart down to \d+ nm by the mean and \d+ nm by mean and blinking", walk.text
    )


def test_light_that_falls_and_a_sample_that_moves_are_drawn(scene, tmp_path):
    frames, found, _ = scene
    fading = 5 + 50 * np.eye(16) * np.exp(-np.arange(len(frames)) / 30)[:, None, None]
    bleaching = fg.estimate_bleaching(np.random.default_rng(0).poisson(fading))
    drift = fg.Drift(np.linspace([0, 0], [2.0, 1.0], len(frames)), 2.0, 0.1, clear=True)
    assert bleaching.clear
    for calibration, moved, more in (
        (found, None, 0),
        (dataclasses.replace(found, bleaching=bleaching), None, 1),
        (found, drift, 1),
    ):
        page, report = written(scene, tmp_path, calibration=calibration, drift=moved)
        assert len(Walk(page).pictures) == 3 + more
        assert ("What changed during the recording" in page) == bool(more)
        assert report["bleaching"]["clear"] == (calibration is not found)


@pytest.mark.parametrize(
    ("number", "method", "said"), [(0.05, "moments", True), (60.0, "moments", False), (0.05, "auto", False)]
)
def test_where_few_emissions_overlap_the_page_names_auto(scene, tmp_path, number, method, said):
    frames, found, result = scene
    x = np.full_like(result.x, number / result.x.size)  # so many emissions in a frame
    x[:] *= 16 if number > 1 else 1
    result = dataclasses.replace(result, x=x, options=fg.SolverOptions(method=method))
    page, report = written((frames, found, result), tmp_path, figure=False)
    assert ("--method auto may show more" in Walk(page).text) == said
    assert report["result"]["overlap"] == pytest.approx(result.overlap)
    assert (result.overlap < 8) == (number < 1)


@pytest.mark.parametrize("name", ["<b>&amp;'\".tif", "a</title><script>alert(1)</script>.tif"])
def test_names_of_files_are_text(scene, tmp_path, name):
    frames, _, _ = scene
    path = Path("data") / name.replace("/", "∕")
    stack = fg.Stack(frames, pixel_size_nm=100.0, path=path)
    page, report = written(scene, tmp_path, stack=stack, command=["fluogan", str(path)], figure=False)
    walk = Walk(page)  # fails at a script, and at elements that do not close
    assert report["input"]["path"] in walk.text
    assert "b" not in walk.open


def test_without_a_pixel_size_lengths_are_pixels_and_nothing_is_said_in_nm(scene, tmp_path):
    page, _ = written(scene, tmp_path, stack=scene[0], figure=False)
    text = Walk(page).text
    assert "lengths on this page are in pixels" in text
    assert "upper left corner (pixels)" in text
    assert "was not computed: the pixel size is not known" in text
    assert not re.search(r"\d nm", text.split("What to check")[0])


def test_without_a_figure_the_page_has_no_pictures_and_says_why(scene, tmp_path, monkeypatch):
    page, _ = written(scene, tmp_path / "one", figure=False)
    assert "Pictures were not asked for (--no-figure)." in Walk(page).text
    assert not Walk(page).pictures
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    page, _ = written(scene, tmp_path / "two")
    assert "matplotlib is not installed" in Walk(page).text
    assert not Walk(page).pictures


def test_a_page_that_cannot_be_made_costs_no_result(scene, tmp_path, monkeypatch, caplog):
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr("fluogan_core.io.report_page.brightest_structures", lambda *a: 1 / 0)
    _, found, result = scene
    files = fg.write_result(result, tmp_path, stack=scene[0], calibration=found, figure=False)
    assert set(files) == {"x", "b", "report"}
    assert "report.html is left out: it could not be made (ZeroDivisionError: division by zero)" in caplog.text
    assert "report.html is of an earlier run" in caplog.text


def test_a_calibration_and_a_part_of_it_are_refused(scene, tmp_path):
    _, found, result = scene
    with pytest.raises(ValueError, match="leave estimate and psf_width out"):
        fg.write_result(result, tmp_path, calibration=found, estimate=found.estimate)
    assert not list(tmp_path.iterdir())


def test_of_a_result_alone_the_page_says_what_is_not_known(scene, tmp_path):
    text = Walk(fg.write_result(scene[2], tmp_path, figure=False)["page"].read_text(encoding="utf-8")).text
    assert "How well the mean of the frames is explained is not known" in text
    assert "The run made no remark." in text


@pytest.mark.parametrize(
    ("stop", "kept"),
    [
        (fg.Stop(fg.StopReason.SETTLED, 30), "the blinking of the frames: kept"),
        (fg.Stop(fg.StopReason.SETTLED, 30, share=0.0), "the blinking of the frames: tried and not kept"),
        (fg.Stop(fg.StopReason.SETTLED, 30, share=0.25), "averaged with the fit to the mean (weight 0.25)"),
        (fg.Stop(fg.StopReason.NO_FLICKER, 0, "flicker makes 1 % of it"), "not used (left out, flicker makes 1 % of it)"),
    ],
)
def test_the_page_says_whether_the_covariance_fit_was_kept(scene, tmp_path, stop, kept):
    import dataclasses

    frames, found, result = scene
    judged = dataclasses.replace(result, stops={**result.stops, "covariance": stop})
    text = Walk(written((frames, found, judged), tmp_path, figure=False)[0]).text
    assert kept in text
    # the finest distance is that of what was used
    used = "and to the blinking" in text.split("What came in")[0]
    by_mean, by_both = re.search(r"down to (\d+) nm by the mean and (\d+) nm", text).groups()
    assert used == (": kept" in kept or "averaged" in kept)
    assert f"two lines as two from {by_both if used else by_mean} nm on" in text


def test_unequal_pixels_are_expected_to_misfit_and_make_the_limit_coarser(scene, tmp_path):
    frames, found, result = scene
    usual = found.noise.of_mean / found.noise.excess
    uneven = dataclasses.replace(found, noise=dataclasses.replace(found.noise, excess=3.0, of_mean=3.0 * usual))
    pages = [Walk(written((frames, one, result), tmp_path, figure=False)[0]).text for one in (found, uneven)]
    limits = [int(re.search(r"down to (\d+) nm by the mean", page).group(1)) for page in pages]
    assert limits[1] > 1.2 * limits[0]
    assert "About 1 is expected of noise." in pages[0]
    assert "About 3 is expected, because the pixels of the camera are unequal." in pages[1]
    assert "to within its noise, most of which is that of unequal camera pixels" in pages[1]


def test_what_was_assumed_is_not_given_an_error(scene, tmp_path):
    """As where blinking tells nothing of the molecules: 1 ± 3 photons would be read as a measurement."""
    frames, found, result = scene
    note = "photons per emission: not determined by this stack (5.2 +- 3 photons); 1 photon per emission is assumed"
    estimate = fg.CameraEstimate(found.camera, 1.0, 0.1, 1.0, 0.5, 3.0, notes=(note,))
    assumed = dataclasses.replace(found, estimate=estimate)
    text = Walk(written((frames, assumed, result), tmp_path, figure=False)[0]).text
    assert "(assumed: the frames do not tell)" in text
    less = dataclasses.replace(estimate, notes=("photons per emission: the stack shows hardly any flicker (0 +- 3 photons)",))
    text = Walk(written((frames, dataclasses.replace(found, estimate=less), result), tmp_path, figure=False)[0]).text
    assert "there is hardly any blinking" in text
    same = "offset and read noise cannot be told apart: a read noise of 0 to 2.5 photons is assumed; give one of them"
    estimate = fg.CameraEstimate(found.camera, 20.0, 0.1, 1.0, 0.5, 3.0, notes=(same,))
    text = Walk(written((frames, dataclasses.replace(found, estimate=estimate), result), tmp_path, figure=False)[0]).text
    assert re.search(r"Read noise of the camera[^±]*± [\d.]+ counts \(assumed: the frames do not tell\)", text)


def test_a_width_that_is_clearly_another_one_is_not_called_unchecked():
    from fluogan_core.calibration.psf_width import _judged

    for measured, error, against in ((1.28, 0.057, True), (1.24, 0.23, False), (0.9, 0.06, False)):
        width = _judged(measured, error, [])
        assert width.width == 1.0
        assert ("speaks against" in width.note) == against
        assert ("could not be checked" in advice_for(width.note).meaning) != against


def test_a_gap_just_below_the_threshold_does_not_read_as_one_at_it():
    from fluogan_core.io.evidence_words import gap_rows
    from fluogan_core.io.page_evidence import gaps_on_page

    gap = {"row_nm": 1.0, "column_nm": 1.0, "separation_nm": 200.0, "length_nm": 300.0, "depth": 0.5, "significance": 2.96}
    facts = {"threshold": 3.0, "finest_nm": None, "gaps": [gap] * 13}
    assert gap_rows(facts)[0][-2:] == ("2.9", "not certain")
    assert "The 12 most significant gaps are listed; the other 1 are in report.json." in gaps_on_page(facts, {})
    assert "are listed" not in gaps_on_page(facts | {"gaps": [gap] * 12}, {})


@pytest.mark.parametrize(
    ("drift", "remarks", "said"),
    [
        (None, [], "no clear shift between the first and the last third of the frames"),
        (None, ["the sample moved by about 0.4 pixels between thirds (0.1 +- 0.03 down): the image is blurred by that"],
         "moved by about 0.4 pixels between thirds (0.1 +- 0.03 down); the image does not follow it"),
        ({"note": "drift: none that is clear (at most 0.14 +- 0.08 pixels along columns)", "followed": False}, [],
         "none that is clear (at most 0.14 +- 0.08 pixels along columns)"),
        ({"note": "drift: the sample moved by 1 +- 0.1 pixels along rows", "followed": True}, [],
         "the sample moved by 1 +- 0.1 pixels along rows; the image follows it"),
    ],
)  # fmt: skip
def test_what_is_known_of_motion_is_said(drift, remarks, said):
    from fluogan_core.io.page_sections import _motion

    assert _motion({"drift": drift, "remarks": remarks}) == said


def test_an_image_of_little_light_is_called_faint_and_its_plan_is_not_that_of_the_background(scene, tmp_path):
    from fluogan_core.io.findings import plan_of, share_of_image

    frames, found, result = scene
    blurred = found.mean / found.camera.gain
    faint = dataclasses.replace(result, x=0.01 * result.x, b=np.asarray(blurred, np.float32))
    assert share_of_image(faint) < 0.05 < share_of_image(result)
    pages = [Walk(written((frames, found, one), tmp_path, figure=False)[0]).text for one in (result, faint)]
    assert ["of the light is in the image; the rest is background" in page for page in pages] == [False, True]
    sharp, none = (plan_of(found, one, 100.0, 60)[0] for one in (result, faint))
    assert none.mean_nm > 1.5 * sharp.mean_nm


def test_a_sample_that_was_followed_is_not_to_be_followed(scene):
    from fluogan_core.io.page_sections import remarks_of

    moved, given = (
        "the sample moved by about 0.4 pixels between",
        "width of the PSF: 1 times as described (given, not measured)",
    )
    notes = ["drift: the sample moved by 0.5 +- 0.05 pixels along columns", "width of the PSF: as described (...)"]
    facts = {"camera_estimate": None, "psf_width": {"note": given}, "remarks": [moved], "input": {"notes": []}}
    assert remarks_of(facts) == [moved, given]
    assert remarks_of(facts | {"input": {"notes": notes}}) == notes
    assert remarks_of(facts | {"input": {"notes": notes[:1]}}) == [*notes[:1], given]


def test_the_score_of_a_fit_that_was_not_kept_is_not_that_of_the_image(scene, tmp_path):
    frames, found, result = scene
    last = {**result.history, "w_held_out": [406.0] * len(result.history["step"])}
    for share, said in ((1.0, True), (0.0, False)):
        stop = fg.Stop(fg.StopReason.SETTLED, 30, share=share)
        judged = dataclasses.replace(result, history=last, stops={**result.stops, "covariance": stop})
        page = Walk(written((frames, found, judged), tmp_path, figure=False)[0]).text.split("All numbers")[0]
        assert ("a score of 406" in page) == said


# -- advice, findings, commands ------------------------------------------------------------------------------------------


def test_every_advice_is_of_a_remark_that_the_library_makes():
    """A remark that is worded anew must not lose its advice in silence."""
    code = "".join(path.read_text(encoding="utf-8") for room in ("calibration", "io") for path in (SOURCES / room).glob("*.py")
                   if path.name != "advice.py")  # fmt: skip
    joined = re.sub(r'"\s*\n\s*f?"', "", code)
    joined = re.sub(r"\{_WHAT\}", "width of the PSF: ", joined)
    for advice in ADVICE:
        assert advice.phrase in joined, advice.phrase


def test_remarks_that_resemble_each_other_have_their_own_advice():
    of = {
        "width of the PSF: as described (covariances of neighbours fit a PSF 1.000 +- 0.008 times as wide)": "agrees with",
        "width of the PSF: the flicker does not determine it (dim); the PSF is used as described": "could not be checked",
        "saturation: 3% of the values are 255, the largest one; their pixels are left out": "largest value",
        "pixels left out of the fit: 2 that no light through this PSF explains (hot, dead, stuck)": "broken",
        "left out of the file: 'b' (3 x 3), beside 'a' (20 x 9 x 9)": "other images",
        "something new": "something unusual",
    }
    for remark, words in of.items():
        assert words in advice_for(remark).meaning


def test_the_sweep_of_a_run_takes_over_what_it_knows():
    command = ["fluogan", "reconstruct", "a.tif", "--output=out", "--background", "b.tif", "--resume", "--factor", "2"]
    assert sweep_command({"command": command}) == ["fluogan", "sweep", "a.tif", "--output", "out-sweep", "--factor", "2"]
    facts = {
        "command": None,
        "input": {"path": "a.tif", "pixel_size_nm": 65.0, "roi": [0, 0, 9, 9]},
        "operator": {"psf_fwhm_nm": 250.0, "factor": 4},
    }
    assert sweep_command(facts)[3:] == ["--output", "sweep", "--fwhm-nm", "250", "--pixel-size-nm", "65", "--factor", "4",
                                        "--roi", "0,0,9,9"]  # fmt: skip
    assert sweep_command(facts | {"input": facts["input"] | {"path": None}}) is None
    assert sweep_command({"command": [*command, "--channel", "1"]}) is None


def test_a_sweep_is_not_told_options_that_it_does_not_have():
    from fluogan_core.cli import commands

    group = next(value for value in vars(commands).values() if isinstance(value, click.Group))
    options = {
        name: {
            option: getattr(parameter, "is_flag", False)
            for parameter in group.commands[name].params
            for option in parameter.opts
        }
        for name in ("reconstruct", "sweep")
    }
    words = {name: flag for name, flag in options["reconstruct"].items() if name.startswith("--") and name != "--output"}
    for name, flag in words.items():
        made = sweep_command({"command": ["fluogan", "reconstruct", "a.tif", name, *([] if flag else ["1"]), "--fwhm-nm", "3"]})
        assert made is None or (name in made) == (name in options["sweep"])
        assert made is None or made[-2:] == ["--fwhm-nm", "3"]

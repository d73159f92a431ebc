"""``--background``: a number or an image, in counts as recorded."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.cli import main

COMMON = ["--pixel-size-nm", "100", "--fwhm-nm", "300", "--factor", "2", "--psf-width", "1", "--photons-per-emitter", "1"]
COMMON += ["--gain", "2", "--offset", "100", "--noise-std", "1", "--method", "none", "--warm-steps", "5", "--no-figure"]


@pytest.fixture
def recorded(tmp_path):
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (20, 16), 2, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[12:28, 15] = 30.0
    counts = 100 + fg.ForwardModel(psi, gain=2.0, noise_std=1.0).sample(x, np.full((20, 16), 6, np.float32), 30, 0)
    tifffile.imwrite(tmp_path / "stack.tif", np.rint(counts).astype(np.uint16))
    tifffile.imwrite(tmp_path / "empty.tif", np.add.outer(np.arange(20.0), np.full(16, 110.0)).astype(np.float32))
    return tmp_path


def reconstructed(folder, *more):
    assert main(["reconstruct", str(folder / "stack.tif"), "--output", str(folder / "out"), *COMMON, *more]) == 0
    return tifffile.imread(folder / "out" / "b.tif")


def test_a_number_and_an_image_are_in_counts_as_recorded(recorded):
    assert np.allclose(reconstructed(recorded, "--background", "112"), 6.0)
    ramp = (np.arange(20.0) + 10) / 2
    assert np.allclose(reconstructed(recorded, "--background", str(recorded / "empty.tif")), ramp[:, None])
    cut = reconstructed(recorded, "--background", str(recorded / "empty.tif"), "--roi", "2,0,16,16")
    assert np.allclose(cut, ramp[2:18, None])


@pytest.mark.parametrize(
    ("background", "says"), [("6", "below the camera's offset"), ("nothing.tif", "there is no file"), ("nan", "background")]
)
def test_a_background_that_cannot_be_is_refused(recorded, capsys, background, says):
    command = ["reconstruct", str(recorded / "stack.tif"), "--output", str(recorded / "out"), *COMMON]
    assert main([*command, "--background", background]) == 2
    assert says in capsys.readouterr().err

"""The operator Psi (blur and bring to the camera grid) and its adjoint, against what other libraries give a user.

All compute the same numbers; each is checked before it is timed.  The box that a camera pixel integrates over belongs to the
kernel, so that a strided convolution does all of Psi at once where a library has one; elsewhere it is a blur on the fine grid
followed by sums of blocks.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import ndimage, signal

from fluogan_core import Psi

from ._cases import FACTOR, airy, make_psi
from ._harness import Options, Report, main, sampled

#: Largest deviation from Psi, in units of the largest value, that float32 arithmetic explains.
_TOLERANCE = 2e-5
TORCH = "torch conv2d, strided"
#: What needs a PSF that is a product of two lines.
SEPARABLE = ("Psi, products", "torch conv2d, strided, one axis at a time", "scipy.ndimage correlate1d, block sums")

Function = Callable[[], Any]
Pair = tuple[Function, Function]
Maker = Callable[[Psi, np.ndarray, np.ndarray], Pair]


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("psi", options)
    rates: list[list[Any]] = []
    for size, frames in options.pick(((16, 64), (32, 64), (64, 16), (128, 4), (32, 1)), ((8, 2),)):
        _compare(report, "Gaussian PSF", size, frames, make_psi(size, 1.0, options.backend).psf, rates)
    for size, frames in options.pick(((32, 16), (128, 2)), ((16, 2),)):
        _compare(report, "Airy PSF (not separable)", size, frames, airy(size), rates)
    report.table(
        "How many times more operations per second a matrix product does than an FFT",
        ["", "Psi takes", "faster here", "forward", "adjoint"],
        rates,
        "From the times above and the operation counts that `Psi` chooses by.",
    )
    return report


def _compare(report: Report, kind: str, size: int, frames: int, psf: np.ndarray, rates: list[list[Any]]) -> None:
    """All ways of applying one operator to a batch of frames, forward and adjoint."""
    options, backend = report.options, report.backend
    psi = Psi(psf, (size, size), FACTOR, backend=backend)
    generator = np.random.default_rng(options.seed)
    x = generator.poisson(0.5, (frames, *psi.fine_shape)).astype(np.float32)
    y = generator.poisson(3.0, (frames, size, size)).astype(np.float32)
    expected = backend.to_host(psi.forward(backend.asarray(x))), backend.to_host(psi.adjoint(backend.asarray(y)))

    pairs: dict[str, Pair] = {}
    left_out: dict[str, str] = {}
    counts: dict[str, int] = {}
    makers: dict[str, Maker] = {
        "Psi, products": lambda *stacks: _ours("products", *stacks),
        "Psi, convolutions": lambda *stacks: _ours("convolutions", *stacks),
        TORCH: _torch,
        "torch conv2d, strided, one axis at a time": _torch_lines,
    }
    if backend.name == "numpy":
        makers |= {
            "scipy oaconvolve, block sums": _scipy,
            "scipy.ndimage correlate1d, block sums": _ndimage,
            "pylops ConvolveND, block sums": _pylops,
            "sigpy convolve": _sigpy,
        }
    for name, make in makers.items():
        # a kernel of one channel is what torch's convolutions are worst at
        count = counts[name] = max(1, frames // 8) if name == TORCH else frames
        if name in SEPARABLE and psi.method != "products":
            left_out[name] = "the PSF is not separable"
            continue
        try:
            pairs[name] = make(psi, x[:count], y[:count])
        except ImportError as error:
            left_out[name] = str(error)
            continue
        _check(name, pairs[name], expected, count)
    setting = {"size": size, "frames": frames, "psf": list(psf.shape), "chosen": psi.method}
    medians = []
    for direction, index in (("forward", 0), ("adjoint", 1)):
        medians.append(
            report.measure(
                f"{kind}, {direction}, per frame",
                f"{size}x{size} camera, {frames} frames",
                [sampled(name, pair[index], counts[name], frames, frames) for name, pair in pairs.items()],
                per="frame",
                seconds=options.pick(1.5, 0),
                reference=TORCH,
                setting=setting,
                left_out=left_out,
            )
        )
    if "Psi, products" in pairs:
        both = [m["Psi, products"] / m["Psi, convolutions"] for m in medians]
        products, convolutions = _operations(psi)
        faster = "products" if sum(both) < 2 else "convolutions"
        rates.append([f"{size}x{size}, {frames} frames", psi.method, faster, *(products / convolutions / r for r in both)])


def _operations(psi: Psi) -> tuple[float, float]:
    """Operations of both ways of applying a separable operator once, as ``Psi`` counts them."""
    (m1, m2), (n1, n2) = psi.shape, psi.fine_shape
    q1, q2 = (m + k for m, k in zip(psi.shape, psi.table.shape[2:]))
    products = 2.0 * (n1 * n2 * m2 + m1 * n1 * m2)
    return products, (psi.factor**2 + 1) * q1 * q2 * (2.5 * math.log2(q1 * q2) + 4)


def _check(name: str, pair: Pair, expected: tuple[np.ndarray, np.ndarray], count: int) -> None:
    """Raise unless forward and adjoint give what Psi gives on the first ``count`` frames."""
    for call, wanted, direction in zip(pair, (e[:count] for e in expected), ("forward", "adjoint")):
        got = call()
        got = got.cpu().numpy() if isinstance(got, torch.Tensor) else got.get() if hasattr(got, "get") else got
        error = float(np.abs(got.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max())
        if error > _TOLERANCE:
            raise ArithmeticError(f"{name} computes another {direction}: off by {error:.1e} of the largest value")


def _ours(method: str, psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    operator = Psi(psi.psf, psi.shape, psi.factor, backend=psi.backend, method=method)
    fine, camera = psi.backend.asarray(x), psi.backend.asarray(y)
    return lambda: operator.forward(fine), lambda: operator.adjoint(camera)


def _boxed(psi: Psi) -> np.ndarray:
    """PSF and camera pixel in one kernel: Psi is every L-th sample of this correlation."""
    return signal.convolve(psi.psf, np.ones((psi.factor, psi.factor))).astype(np.float32)


def _torch(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    return _strided([_boxed(psi)], psi, x, y)


def _torch_lines(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    line = signal.convolve(psi.psf.sum(axis=0), np.ones(psi.factor)).astype(np.float32)
    return _strided([line[:, None], line[None, :]], psi, x, y)


def _strided(kernels: list[np.ndarray], psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    """Psi as strided convolutions in turn, along the axes in which each kernel extends."""
    device, functional = psi.backend.device, torch.nn.functional
    fine, camera = (torch.as_tensor(stack, device=device)[:, None] for stack in (x, y))
    steps = []
    for kernel in kernels:
        flipped = torch.as_tensor(kernel, device=device)[None, None].flip(2, 3).contiguous()
        stride = tuple(psi.factor if size > 1 else 1 for size in kernel.shape)
        padding = tuple(psi.psf.shape[0] // 2 if size > 1 else 0 for size in kernel.shape)
        steps.append((flipped, stride, padding))

    def forward() -> torch.Tensor:
        image = fine
        with torch.inference_mode():
            for kernel, stride, padding in steps:
                image = functional.conv2d(image, kernel, stride=stride, padding=padding)
        return image

    def adjoint() -> torch.Tensor:
        image = camera
        with torch.inference_mode():
            for kernel, stride, padding in reversed(steps):
                image = functional.conv_transpose2d(image, kernel, stride=stride, padding=padding)
        return image

    return forward, adjoint


def _sum_blocks(fine: np.ndarray, factor: int) -> np.ndarray:
    frames, rows, columns = fine.shape
    return fine.reshape(frames, rows // factor, factor, columns // factor, factor).sum(axis=(2, 4))


def _repeat_blocks(camera: np.ndarray, factor: int) -> np.ndarray:
    return camera.repeat(factor, axis=1).repeat(factor, axis=2)


def _scipy(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    kernel, factor = psi.psf[None].astype(np.float32), psi.factor
    back = kernel[:, ::-1, ::-1]

    def blur(image: np.ndarray, with_kernel: np.ndarray) -> np.ndarray:
        return signal.oaconvolve(image, with_kernel, mode="same", axes=(1, 2))

    return lambda: _sum_blocks(blur(x, kernel), factor), lambda: blur(_repeat_blocks(y, factor), back)


def _ndimage(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    line, factor = psi.psf.sum(axis=0).astype(np.float32), psi.factor

    def blur(image: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            image = ndimage.correlate1d(image, line, axis=axis, mode="constant")
        return image

    return lambda: _sum_blocks(blur(x), factor), lambda: blur(_repeat_blocks(y, factor))


def _pylops(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    processing = _optional("pylops.signalprocessing")
    radius = psi.psf.shape[0] // 2
    blur = processing.ConvolveND(
        dims=x.shape, h=psi.psf.astype(np.float32), offset=(radius, radius), axes=(-2, -1), dtype="float32"
    )

    def forward() -> np.ndarray:
        return _sum_blocks(blur.matvec(x.ravel()).reshape(x.shape), psi.factor)

    def adjoint() -> np.ndarray:
        return blur.rmatvec(_repeat_blocks(y, psi.factor).ravel()).reshape(x.shape)

    return forward, adjoint


def _sigpy(psi: Psi, x: np.ndarray, y: np.ndarray) -> Pair:
    sigpy = _optional("sigpy")
    kernel, radius = _boxed(psi), psi.psf.shape[0] // 2
    # "valid" needs the zeros around the field spelt out
    width = [(0, 0), (radius, radius), (radius, radius)]
    padded = np.pad(x, width)
    stride = (psi.factor, psi.factor)

    def forward() -> np.ndarray:
        return sigpy.convolve(np.pad(x, width), kernel, mode="valid", strides=stride)

    def adjoint() -> np.ndarray:
        whole = sigpy.convolve_data_adjoint(y, kernel, padded.shape, mode="valid", strides=stride)
        return whole[:, radius:-radius, radius:-radius]

    return forward, adjoint


def _optional(name: str) -> Any:
    """Import a library that is only compared with, or raise ImportError saying how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"{name.split('.')[0]} is not installed; pip install 'fluogan-core[bench]'") from None


if __name__ == "__main__":
    main("psi", run)

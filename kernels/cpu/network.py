"""What the kernels need to know of a critic: its weights, laid out for them, and the shape of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .pooling import cell_places
from .tiles import LANES

#: One layer: convolution, LeakyReLU and pooling.  Offsets are into the flat arrays of :class:`Network` and of a frame's caches.
LAYER = np.dtype(
    [
        ("rows_in", np.int64),
        ("columns_in", np.int64),
        ("rows", np.int64),  # after pooling
        ("columns", np.int64),
        ("inputs", np.int64),  # channels, padded (1 for the first layer)
        ("channels", np.int64),  # padded
        ("used", np.int64),  # channels without the padding
        ("tiles", np.int64),  # offset into Network.tiles
        ("filters", np.int64),  # offset into Network.filters
        ("biases", np.int64),  # offset into Network.biases
        ("cells", np.int64),  # offset of the layer's pooled units in a frame's caches
    ]
)


class Network(NamedTuple):
    """A critic of the slim family, as the kernels read it; made by :func:`make_network`.

    Attributes
    ----------
    layers : (depth,) record array of :data:`LAYER`
    spread : float32
        First layer, tap-major and mirrored: the change that a unit step at a pixel makes around it, (k, k, C).
    tiles : float32
        Later layers for the inner kernel, mirrored: (k, k, C_out / LANES, C_in, LANES).
    backward_tiles : float32
        The same for the way back: (k, k, C_in / LANES, C_out, LANES).
    fans : float32
        Second layer, mirrored: what each input channel spreads, (C_in, k, k, C_out).
    filters : float32
        All layers, one filter after the other: (C_out, k, k, C_in).
    first : float32
        First layer, one tap after the other, as one tile: (C / LANES, k * k, LANES).
    bounds : float32
        Last layer, mirrored: the norm of each tap over the input channels, (k, k, C_out).
    biases : float32
    head : (rows * columns * C,) float32
        Channel last.
    head_bias, slope : float
    kernel_size, pool : int
    places : (2, positions) int64
        See :func:`.pooling.cell_places`.
    mean, std, scale : (M1, M2) float32
        The input is ``(y - mean) / std``; ``scale`` is 1 / std.
    """

    layers: np.ndarray
    spread: np.ndarray
    first: np.ndarray
    tiles: np.ndarray
    backward_tiles: np.ndarray
    fans: np.ndarray
    filters: np.ndarray
    bounds: np.ndarray
    biases: np.ndarray
    head: np.ndarray
    head_bias: float
    slope: float
    kernel_size: int
    pool: int
    places: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray


def _padded(channels: int) -> int:
    return -(-channels // LANES) * LANES


def make_network(
    weights: Sequence[Any],
    biases: Sequence[Any],
    head: Any,
    head_bias: float,
    *,
    kernel_size: int,
    pool: int,
    slope: float,
    mean: Any,
    std: Any,
) -> Network:
    """Lay out the weights of a critic for the kernels.

    Parameters
    ----------
    weights : sequence of (C_out, C_in, k, k) arrays
        Convolutions, as cross-correlations with zero padding ``k // 2``; the first has one input channel.
    biases : sequence of (C_out,) arrays
    head : (C * H * W,) array
        Weights of the last, linear layer in the order channel, row, column.
    head_bias : float
    kernel_size : int
        k, odd.
    pool : int
        Width and stride of the max-pooling.
    slope : float
        Slope of the LeakyReLU for negative values, 0 to 1.
    mean, std : (M1, M2) arrays
        Normalisation of the input, counts.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or the field, or a value is not finite.
    """
    mean, std = (np.ascontiguousarray(v, dtype=np.float32) for v in (mean, std))
    weights = [np.ascontiguousarray(w, dtype=np.float32) for w in weights]
    biases = [np.ascontiguousarray(b, dtype=np.float32) for b in biases]
    head = np.ascontiguousarray(head, dtype=np.float32).ravel()
    _check(weights, biases, head, head_bias, kernel_size, pool, slope, mean, std)

    layers = np.zeros(len(weights), dtype=LAYER)
    size = mean.shape
    tiles: list[np.ndarray] = []
    backward_tiles: list[np.ndarray] = []
    filters: list[np.ndarray] = []
    padded_biases: list[np.ndarray] = []
    fans = np.zeros(0, dtype=np.float32)
    inputs, cells = 1, 0
    for layer, weight, bias in zip(layers, weights, biases):
        used, channels = len(weight), _padded(len(weight))
        layer["rows_in"], layer["columns_in"] = size
        size = size[0] // pool, size[1] // pool
        layer["rows"], layer["columns"] = size
        layer["inputs"], layer["channels"], layer["used"] = inputs, channels, used
        layer["tiles"], layer["filters"] = (sum(p.size for p in part) for part in (tiles, filters))
        layer["biases"] = sum(p.size for p in padded_biases)
        layer["cells"] = cells
        cells += size[0] * size[1] * channels
        full = np.zeros((channels, inputs, kernel_size, kernel_size), dtype=np.float32)
        full[:used, : weight.shape[1]] = weight
        mirrored = full[:, :, ::-1, ::-1].reshape(channels // LANES, LANES, inputs, kernel_size, kernel_size)
        if inputs == 1:
            spread = mirrored.transpose(3, 4, 0, 1, 2).ravel()
            first = full.reshape(channels // LANES, LANES, -1).transpose(0, 2, 1).ravel()
        else:
            if not tiles:
                fans = mirrored.transpose(2, 3, 4, 0, 1).ravel()
            tiles.append(mirrored.transpose(3, 4, 0, 2, 1).ravel())
            backward = full.reshape(channels, inputs // LANES, LANES, kernel_size, kernel_size)
            backward_tiles.append(backward.transpose(3, 4, 1, 0, 2).ravel())
        filters.append(full.transpose(0, 2, 3, 1).ravel())
        padded_biases.append(np.pad(bias, (0, channels - used)))
        inputs = channels
    norms = np.sqrt(np.square(full[:, :, ::-1, ::-1], dtype=np.float64).sum(axis=1)).transpose(1, 2, 0)
    linear = np.zeros((*size, channels), dtype=np.float32)
    linear[..., :used] = head.reshape(used, *size).transpose(1, 2, 0)
    empty = [np.zeros(0, dtype=np.float32)]
    return Network(
        layers=layers,
        spread=np.ascontiguousarray(spread),
        first=np.ascontiguousarray(first),
        tiles=np.concatenate(tiles or empty),
        backward_tiles=np.concatenate(backward_tiles or empty),
        fans=np.ascontiguousarray(fans),
        filters=np.concatenate(filters),
        bounds=norms.astype(np.float32).ravel(),
        biases=np.concatenate(padded_biases),
        head=linear.ravel(),
        head_bias=float(head_bias),
        slope=float(slope),
        kernel_size=int(kernel_size),
        pool=int(pool),
        places=cell_places(pool),
        mean=mean,
        std=std,
        scale=(1.0 / std.astype(np.float64)).astype(np.float32),
    )


def _check(
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    head: np.ndarray,
    head_bias: float,
    kernel_size: int,
    pool: int,
    slope: float,
    mean: np.ndarray,
    std: np.ndarray,
) -> None:
    """Raise unless everything fits."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and positive, so that the convolution is centred, got {kernel_size}")
    if pool < 1:
        raise ValueError(f"pool must be at least 1, got {pool}")
    if not 0 <= slope <= 1:
        raise ValueError(f"slope must be from 0 to 1, got {slope}: pooling and LeakyReLU exchange only if it is monotone")
    if mean.ndim != 2 or mean.shape != std.shape:
        raise ValueError(f"mean and std must be images of one shape (M1, M2), got {mean.shape} and {std.shape}")
    if not weights or len(weights) != len(biases):
        raise ValueError(f"there must be one bias per convolution and at least one, got {len(weights)} and {len(biases)}")
    inputs, size = 1, mean.shape
    for number, (weight, bias) in enumerate(zip(weights, biases)):
        expected = (len(bias), inputs, kernel_size, kernel_size)
        if bias.ndim != 1 or weight.shape != expected:
            raise ValueError(f"weights[{number}] must have shape (C_out, C_in, k, k) = {expected}, got {weight.shape}")
        inputs, size = len(bias), (size[0] // pool, size[1] // pool)
    if min(size) < 1:
        raise ValueError(f"a field of {mean.shape} pixels is too small for {len(weights)} poolings by {pool}")
    if head.size != inputs * size[0] * size[1]:
        raise ValueError(f"head must have C * H * W = {inputs} * {size[0]} * {size[1]} weights, got {head.size}")
    if not (std >= np.finfo(np.float32).tiny).all():  # its inverse is a float32 too
        raise ValueError("std must be positive at every pixel, and a normal float32")
    if not all(np.isfinite(v).all() for v in (*weights, *biases, head, np.asarray(head_bias), mean, std)):
        raise ValueError("every weight, bias, mean and standard deviation must be finite")

"""What the kernels need to know of a critic: its weights, laid out on the device, and the shape of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .device import Device

__all__ = ["Layer", "Network", "make_network"]

#: Channels are padded with zero weights to a multiple of this: a warp has one lane per channel.
LANES = 32
#: Larger kernels or cells do not fit in registers.
_LARGEST_KERNEL, _LARGEST_POOL = 5, 3


class Layer(NamedTuple):
    """Convolution, LeakyReLU and pooling; twin of ``Layer`` in critic.cuh, which documents the fields."""

    rows_in: int
    columns_in: int
    rows: int
    columns: int
    inputs: int
    inputs_used: int
    channels: int
    channels_used: int
    fans: int
    filters: int
    biases: int
    cells: int


class Network(NamedTuple):
    """A critic of the slim family, as the kernels read it; made by :func:`make_network`.

    Attributes
    ----------
    layers : tuple of Layer
    table : (depth, 12) int32
        The same on the device.
    first : (C / LANES, k, k, LANES) float32
        First layer.
    fans : float32
        Later layers, mirrored: what each input channel spreads, (C_out / LANES, C_in, k, k, LANES).
    filters : float32
        Later layers: what each output channel sees, (C_out, k, k, C_in).
    bounds : (C / LANES, k, k, LANES) float32
        Last layer: the norm of each tap over the input channels.
    biases : float32
    head : (rows, columns, C) float32
    head_bias, slope : float
    kernel_size, pool : int
    units : int
        Pooled units of all layers together, padding included.
    mean, std, scale : (M1, M2) float32
        The input is ``(y - mean) / std``; ``scale`` is 1 / std.
    """

    layers: tuple[Layer, ...]
    table: Any
    first: Any
    fans: Any
    filters: Any
    bounds: Any
    biases: Any
    head: Any
    head_bias: Any
    slope: float
    kernel_size: int
    pool: int
    units: int
    mean: Any
    std: Any
    scale: Any


def make_network(
    device: Device,
    weights: Sequence[Any],
    biases: Sequence[Any],
    head: Any,
    head_bias: Any,
    *,
    kernel_size: int,
    pool: int,
    slope: float,
    mean: Any,
    std: Any,
) -> Network | None:
    """Lay out the weights of a critic for the kernels, without a copy through the host.

    Parameters
    ----------
    device : Device
    weights : sequence of (C_out, C_in, k, k) arrays
        Convolutions, as cross-correlations with zero padding ``k // 2``; the first has one input channel.
    biases : sequence of (C_out,) arrays
    head : (C * H * W,) array
        Weights of the last, linear layer in the order channel, row, column.
    head_bias : float, or array of one element
    kernel_size : int
        k, odd.
    pool : int
        Width and stride of the max-pooling.
    slope : float
        Slope of the LeakyReLU for negative values, 0 to 1.
    mean, std : (M1, M2) arrays
        Normalisation of the input, counts.

    Returns
    -------
    Network or None
        None for a kernel above 5 x 5 or a pooling above 3 x 3, which would not fit in registers.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or the field, or a value is not finite.
    """
    xp = device.xp
    mean, std = (xp.ascontiguousarray(v, dtype=xp.float32) for v in (mean, std))
    weights = [xp.ascontiguousarray(w, dtype=xp.float32) for w in weights]
    biases = [xp.ascontiguousarray(b, dtype=xp.float32) for b in biases]
    head = xp.ascontiguousarray(head, dtype=xp.float32).ravel()
    layers = _layers([tuple(w.shape) for w in weights], tuple(mean.shape), kernel_size, pool)
    head_bias = xp.asarray(head_bias, dtype=xp.float32).reshape(1)
    _check(device, layers, weights, biases, head, head_bias, slope, mean, std)
    if kernel_size > _LARGEST_KERNEL or pool > _LARGEST_POOL:
        return None

    padded = []
    for layer, weight in zip(layers, weights):
        full = xp.zeros((layer.channels, layer.inputs, kernel_size, kernel_size), dtype=xp.float32)
        full[: weight.shape[0], : weight.shape[1]] = weight
        padded.append(full)
    last = layers[-1]
    linear = xp.zeros((last.rows, last.columns, last.channels), dtype=xp.float32)
    linear[..., : last.channels_used] = head.reshape(last.channels_used, last.rows, last.columns).transpose(1, 2, 0)
    all_biases = xp.zeros(sum(layer.channels for layer in layers), dtype=xp.float32)
    for layer, bias in zip(layers, biases):
        all_biases[layer.biases : layer.biases + layer.channels_used] = bias
    norms = xp.sqrt(xp.square(padded[-1].astype(xp.float64)).sum(axis=1, keepdims=True))
    nothing = [xp.zeros(1, dtype=xp.float32)]  # a critic of one layer has no later ones
    return Network(
        layers=layers,
        table=xp.asarray(layers, dtype=xp.int32),
        first=_by_lanes(xp, padded[0]),
        fans=xp.concatenate([_by_lanes(xp, p[:, :, ::-1, ::-1]).ravel() for p in padded[1:]] or nothing),
        filters=xp.concatenate([p.transpose(0, 2, 3, 1).ravel() for p in padded[1:]] or nothing),
        bounds=_by_lanes(xp, norms.astype(xp.float32)),
        biases=all_biases,
        head=linear,
        head_bias=head_bias,
        slope=float(slope),
        kernel_size=int(kernel_size),
        pool=int(pool),
        units=last.cells + linear.size,
        mean=mean,
        std=std,
        scale=(1.0 / std.astype(xp.float64)).astype(xp.float32),
    )


def _by_lanes(xp: Any, weights: Any) -> Any:
    """Return (C_out, C_in, k, k) weights as (C_out / LANES, C_in, k, k, LANES)."""
    channels, *others = weights.shape
    return xp.ascontiguousarray(weights.reshape(channels // LANES, LANES, *others).transpose(0, 2, 3, 4, 1))


def _layers(shapes: list[tuple[int, ...]], size: tuple[int, ...], kernel_size: int, pool: int) -> tuple[Layer, ...]:
    """Return the shape and the offsets of every layer, or raise ValueError."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and positive, so that the convolution is centred, got {kernel_size}")
    if pool < 1:
        raise ValueError(f"pool must be at least 1, got {pool}")
    if len(size) != 2:
        raise ValueError(f"mean must be an image (M1, M2), got shape {size}")
    if not shapes:
        raise ValueError("there must be at least one convolution")
    layers: list[Layer] = []
    inputs_used = inputs = 1
    weights = biases = cells = 0
    for number, shape in enumerate(shapes):
        used = shape[0]
        if shape != (used, inputs_used, kernel_size, kernel_size):
            expected = f"(C_out, {inputs_used}, {kernel_size}, {kernel_size})"
            raise ValueError(f"weights[{number}] must have shape (C_out, C_in, k, k) = {expected}, got {shape}")
        rows, columns, channels = size[0] // pool, size[1] // pool, -(-used // LANES) * LANES
        # one offset serves both layouts: they hold the same number of weights
        offsets = (weights, weights, biases, cells)
        layers.append(Layer(*size, rows, columns, inputs, -(-inputs_used // 4) * 4, channels, used, *offsets))
        weights += inputs * channels * kernel_size**2 if number > 0 else 0
        biases += channels
        cells += rows * columns * channels
        size, inputs, inputs_used = (rows, columns), channels, used
    if min(size) < 1:
        raise ValueError(
            f"a field of {layers[0].rows_in} x {layers[0].columns_in} pixels is too small for {len(shapes)} poolings by {pool}"
        )
    return tuple(layers)


def _check(
    device: Device,
    layers: tuple[Layer, ...],
    weights: list[Any],
    biases: list[Any],
    head: Any,
    head_bias: Any,
    slope: float,
    mean: Any,
    std: Any,
) -> None:
    """Raise ValueError unless the values fit the layers."""
    xp, last = device.xp, layers[-1]
    if not 0 <= slope <= 1:
        raise ValueError(f"slope must be from 0 to 1, got {slope}: pooling and LeakyReLU exchange only if it is monotone")
    if mean.shape != std.shape:
        raise ValueError(f"mean and std must be images of one shape (M1, M2), got {mean.shape} and {std.shape}")
    if [tuple(b.shape) for b in biases] != [(layer.channels_used,) for layer in layers]:
        raise ValueError(f"there must be one bias per channel and convolution, got shapes {[tuple(b.shape) for b in biases]}")
    if head.size != last.channels_used * last.rows * last.columns:
        raise ValueError(
            f"head must have C * H * W = {last.channels_used} * {last.rows} * {last.columns} weights, got {head.size}"
        )
    # one question for all of them: each would wait for the device
    values = xp.concatenate([v.ravel() for v in (*weights, *biases, head, head_bias, mean, std)])
    device.check(xp.stack([xp.isfinite(values).all(), (std >= xp.finfo(xp.float32).tiny).all()]), _judge)


def _judge(finite: bool, positive: bool) -> None:
    if not positive:
        raise ValueError("std must be positive at every pixel, and a normal float32")
    if not finite:
        raise ValueError("every weight, bias, mean and standard deviation must be finite")

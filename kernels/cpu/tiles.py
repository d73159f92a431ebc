"""The inner kernel of every convolution: rows of inputs times a tile of weights, added to rows of outputs.

LLVM's vectoriser keeps the running sums of such a loop in memory, at a third of the speed; written out as vector operations
they stay in registers.  The code is generic LLVM, for every processor: a vector of :data:`LANES` floats is one or several
registers, product and sum fuse where the processor can.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

#: Channels are padded with zero weights to a multiple of this, the width of the inner kernel (one register of
#: AVX-512, two of AVX2).
LANES = 16

#: Options of functions whose floating-point operations must stay as written.
EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
#: Options of functions that may fuse and reorder floating-point operations; nothing is promised about NaN or infinity, since
#: comparisons rely on them.
FAST: dict[str, Any] = {**EXACT, "fastmath": {"contract", "reassoc", "nsz"}}


def _rows_times_tile(rows: int) -> Any:
    """Return ``f(out, to, inputs, start, weights, tile, count)`` for ``rows`` rows.

    For each row r: ``out[to[r] : to[r] + LANES] += inputs[start[r] : start[r] + count] @ W``, with W the (count, LANES) tile
    that begins at ``weights[tile]``.  All arrays are flat, ``weights`` float32, the others both float32 or both float64;
    offsets are not checked; the output rows must not overlap, but two rows may be the same in input and output.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def rows_times_tile(typing_context, out, to, inputs, start, weights, tile, count):  # type: ignore[no-untyped-def]
        if out.dtype != inputs.dtype or out.dtype not in (types.float32, types.float64) or weights.dtype != types.float32:
            return None
        offsets = types.UniTuple(types.int64, rows)
        signature = types.void(out, offsets, inputs, offsets, weights, types.int64, types.int64)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            def data(index: int) -> Any:
                return context.make_array(signature.args[index])(context, builder, arguments[index]).data

            whole, lane = ir.IntType(64), ir.IntType(32)
            wide = signature.args[0].dtype == types.float64
            stored = ir.VectorType(ir.FloatType(), LANES)
            vector = ir.VectorType(ir.DoubleType(), LANES) if wide else stored
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)

            def at(pointer: Any, offset: Any, kind: Any) -> Any:
                return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())

            targets = [at(data(0), builder.extract_value(arguments[1], r), vector) for r in range(rows)]
            sources = [builder.gep(data(2), [builder.extract_value(arguments[3], r)]) for r in range(rows)]
            weight_tile = builder.gep(data(4), [arguments[5]])
            before = [builder.load(target, align=4) for target in targets]
            entry = builder.block
            loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(whole)
            k.add_incoming(whole(0), entry)
            sums = [builder.phi(vector) for _ in range(rows)]
            weight = builder.load(at(weight_tile, builder.mul(k, whole(LANES)), stored), align=4)
            weight = builder.fpext(weight, vector) if wide else weight
            after = []
            for r in range(rows):
                value = builder.insert_element(undefined, builder.load(builder.gep(sources[r], [k])), lane(0))
                product = builder.fmul(builder.shuffle_vector(value, undefined, everywhere), weight, flags=("contract",))
                after.append(builder.fadd(product, sums[r], flags=("contract",)))
            following = builder.add(k, whole(1))
            k.add_incoming(following, loop)
            for r in range(rows):
                sums[r].add_incoming(before[r], entry)
                sums[r].add_incoming(after[r], loop)
            builder.cbranch(builder.icmp_signed("<", following, arguments[6]), loop, done)

            builder.position_at_end(done)
            for r in range(rows):
                builder.store(after[r], targets[r], align=4)
            return context.get_dummy_value()

        return signature, generate

    return rows_times_tile


# As many sums as registers hold beside the weights: four rows of float32, two of float64.
_four_rows = _rows_times_tile(4)
_two_rows = _rows_times_tile(2)


class Cells(NamedTuple):
    """Input cells of a convolution; arrays with room for all of a box."""

    rows: np.ndarray  # int64, row and column of the first of the k x k positions that the cell reaches
    columns: np.ndarray
    sources: np.ndarray  # int64, where the cell's values begin
    norms: np.ndarray  # float32, a safe bound of their norm
    picked: np.ndarray  # (2, n) int64, sources and targets of those that matter for one tap


def make_cells(count: int) -> Cells:
    """Allocate room for ``count`` cells."""
    rows, columns, sources = (np.empty(count, dtype=np.int64) for _ in range(3))
    return Cells(rows, columns, sources, np.empty(count, dtype=np.float32), np.empty((2, count), dtype=np.int64))


@numba.njit(**FAST)
def spread_cells(out, width, inside, inputs, cells, number, weights, tile, kernel_size, count, channels):  # type: ignore[no-untyped-def]
    """Add to ``out`` what the input cells make through a convolution, in the form "each cell spreads over its surroundings".

    Parameters
    ----------
    out : flat float32 or float64
        Positions in rows of ``width``, ``channels`` each.
    inside : (first row, last row, first column, last column)
        Positions that matter; what falls outside is left out.
    inputs : like ``out``
        ``count`` values per cell.
    cells, number : Cells, int
        The first ``number`` of them.
    weights, tile : flat float32, int
        Mirrored tiles (k, k, channels / LANES, count, LANES) from ``weights[tile]`` on.
    """
    rows, columns, cell_sources = cells.rows, cells.columns, cells.sources
    sources, targets = cells.picked[0], cells.picked[1]
    wide = out.itemsize == 8
    for down in range(kernel_size):
        for right in range(kernel_size):
            picked = 0
            for i in range(number):
                row, column = rows[i] + down, columns[i] + right
                sources[picked], targets[picked] = cell_sources[i], (row * width + column) * channels
                picked += (inside[0] <= row <= inside[1]) & (inside[2] <= column <= inside[3])
            for shift in range(0, channels, LANES):
                for i in range(0, picked if wide else 0, 2):
                    a = min(i + 1, picked - 1)
                    _two_rows(
                        out, (targets[i] + shift, targets[a] + shift), inputs, (sources[i], sources[a]), weights, tile, count
                    )
                for i in range(0, 0 if wide else picked, 4):
                    # past the end the last cell is repeated: the same sums are stored twice
                    a, b, c = min(i + 1, picked - 1), min(i + 2, picked - 1), min(i + 3, picked - 1)
                    _four_rows(
                        out,
                        (targets[i] + shift, targets[a] + shift, targets[b] + shift, targets[c] + shift),
                        inputs,
                        (sources[i], sources[a], sources[b], sources[c]),
                        weights,
                        tile,
                        count,
                    )
                tile += count * LANES


# In the loops over channels below and elsewhere, offsets are unsigned: a signed one might count from the end, which keeps a
# loop from vectorising; a slice would do as well, but its reference count costs more than the loop.
@numba.njit(**FAST)
def add_scaled(out, to, values, start, count, factor):  # type: ignore[no-untyped-def]
    """Add ``factor`` times one stretch of a flat array to another."""
    target, source = np.uint64(to), np.uint64(start)
    for j in range(np.uint64(count)):
        out[target + j] += factor * values[source + j]


@numba.njit(**FAST)
def scalar_product(values, start, weights, first, count):  # type: ignore[no-untyped-def]
    """Return the scalar product of two stretches of flat arrays."""
    a, b = np.uint64(start), np.uint64(first)
    total = np.float32(0.0)
    for j in range(np.uint64(count)):
        total += values[a + j] * weights[b + j]
    return total


@numba.njit(**FAST)
def clear(values, count):  # type: ignore[no-untyped-def]
    """Set the first values of a flat array to 0."""
    for j in range(np.uint64(count)):
        values[j] = 0

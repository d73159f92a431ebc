r"""The operator :math:`\Psi = D H` (blur, then bring the fine grid to the camera grid), its adjoint, columns and norms.

Up to translation :math:`\Psi` has only :math:`L^2` distinct columns, one per phase ``p`` of a fine pixel inside its camera
pixel.  The polyphase table ``T[p1, p2, k1, k2]`` (light of phase ``p`` that reaches the camera pixel ``k + origin`` away) is
therefore the whole operator:

.. math:: (\Psi x)_m = \sum_{p} \sum_{k} T_{p,k}\, x_{p,\, m - k - \mathrm{origin}},

a sum of :math:`L^2` camera-sized convolutions.  Transforming the phases at camera size is spectral folding done before the
transform instead of after it: the aliases of a fine spectrum are never computed, and no frequency needs special care.  Where
the PSF is separable and the field small, two matrix products are faster than any FFT.

One file because it is one class, most of which is the documentation of its methods.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from ..backend.arrays import Backend, backend_of, get_backend
from ..backend.checks import LARGEST, floating_dtype, image_shape, one_of, real_number, trailing_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import Array, ArrayLike, DTypeLike
from .norm import spectral_norm
from .polyphase import Convolutions, Products, Tables
from .psf import cut_psf, scaled_psf, valid_psf
from .value import OperatorValue, read_only

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Psi"]


class Psi(OperatorValue):
    r"""The operator :math:`\Psi = \kappa\, D H` of eq. (1), on one backend.

    Nothing outside the field emits (zero boundary, linear convolution).

    Parameters
    ----------
    psf : (K1, K2) array_like, both odd
        PSF on the fine grid, centred, non-negative; normalised to sum 1 here.  See :func:`gaussian_psf`.
    shape : (M1, M2)
        Camera pixels.
    factor : int
        Super-resolution factor L; the fine grid is (L M1, L M2).
    binning : {"sum", "point"}
        ``"sum"``: a camera pixel integrates its L x L fine pixels, columns sum to kappa inside the field.  ``"point"``: it
        takes one sample (offset L // 2), columns sum to about kappa / L**2: the paper's "subset of the elements".
    photons_per_emitter : float
        kappa, detected photons per emission, 1e-15 to 1e15; 1 is the paper's model.
    backend : {"auto", "numpy", "cupy"} or Backend
        Where the operator computes; inputs must live there.
    method : {"auto", "products", "convolutions"}
        Two matrix products (separable PSF only) or FFTs at camera size; ``"auto"`` takes the one with less work.
    memory_budget : int, optional
        Bytes that intermediates may take; batches are cut to fit.

    Attributes
    ----------
    shape : (int, int)
        (M1, M2).
    fine_shape : (int, int)
        (N1, N2).
    psf : (K1, K2) float64 on the host
        The PSF, sum 1.
    table : (L, L, T1, T2) float64 on the host
        The polyphase table, kappa included: light from phase p reaching the camera pixel ``k + origin`` away.
    origin : (int, int)
        Camera-pixel offset of ``table[..., 0, 0]``.
    method : str
        ``"products"`` or ``"convolutions"``, whichever is used.
    memory_budget : int
        Bytes; may be set to another value.

    Raises
    ------
    TypeError
        If the PSF is a masked array or does not hold real numbers.
    ValueError
        If the PSF is not 2-D, odd-sized, finite and non-negative, or is larger than the fine field; if an option is out of its
        range; if ``method="products"`` is asked for and the PSF is not separable.

    Notes
    -----
    An operator is a value.  Its attributes are fixed, except ``memory_budget``, and its arrays on the host are read-only (those
    of a CUDA device cannot be protected: do not write to them).  Two operators are equal, and have the same hash, if they have
    the same :attr:`fingerprint`, backend and method: they then give the same results bit for bit.  A pickled operator takes
    along the name of its backend and is rebuilt from its PSF.

    Any function that returns an odd-sized array can be the PSF: nothing has to be registered.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=4), shape=(32, 32), factor=4, backend="numpy")
    >>> x = np.zeros(psi.fine_shape, dtype=np.float32)
    >>> x[64, 64] = 100.0
    >>> y = psi.forward(x)
    >>> y.shape, y.dtype.name, round(float(y.sum()), 2)
    ((32, 32), 'float32', 100.0)
    """

    @any_kind("psf", answers=False)
    def __init__(
        self,
        psf: ArrayLike,
        shape: tuple[int, int],
        factor: int,
        *,
        binning: str = "sum",
        photons_per_emitter: float = 1.0,
        backend: str | Backend = "auto",
        method: str = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self.shape = image_shape(shape)
        self.factor = whole_number(factor, "factor", low=1)
        self.binning = one_of(binning, "binning", ("sum", "point"))
        self.photons_per_emitter = real_number(photons_per_emitter, "photons_per_emitter", low=0, high=LARGEST, open_low=True)
        if self.photons_per_emitter < 1 / LARGEST:
            raise ValueError(f"photons_per_emitter must be at least {1 / LARGEST:g}, got {self.photons_per_emitter:g}")
        self.psf = valid_psf(psf, (self.shape[0] * self.factor, self.shape[1] * self.factor))
        self._asked_method = one_of(method, "method", ("auto", "products", "convolutions"))
        self.backend = get_backend(backend)
        if memory_budget is None:
            self.memory_budget = self.backend.memory_budget()
        else:
            self.memory_budget = whole_number(memory_budget, "memory_budget", low=1)
        self._build()

    def _build(self) -> None:
        """Make the tables and the engine from what the operator is made of."""
        self.fine_shape = (self.shape[0] * self.factor, self.shape[1] * self.factor)
        self.psf = read_only(self.psf)
        kappa, asked = self.photons_per_emitter, self._asked_method
        self._tables = Tables(self.psf, self.shape, self.factor, self.binning, kappa, self.backend, asked)
        self.table, self.origin, self.method = read_only(self._tables.table), self._tables.origin, self._tables.method
        self._engine = self._tables.engine()
        self._fixed = True

    def __repr__(self) -> str:
        return (
            f"Psi({self.fine_shape[0]} x {self.fine_shape[1]} -> {self.shape[0]} x {self.shape[1]}, binning={self.binning!r}, "
            f"photons_per_emitter={self.photons_per_emitter:g}, method={self.method!r}, backend={self.backend.name!r})"
        )

    def replaced(
        self, *, psf: ArrayLike | None = None, photons_per_emitter: float | None = None, method: str | None = None
    ) -> Self:
        """Return the operator with some parameters replaced and all others alike.

        Parameters
        ----------
        psf : (K1, K2) array_like, optional
            Another PSF.
        photons_per_emitter : float, optional
            Another kappa, detected photons per emission.
        method : {"auto", "products", "convolutions"}, optional
            Another method.  By default the one that this operator was asked for, so that ``"auto"`` chooses anew for
            the new PSF and a forced method stays forced.

        Returns
        -------
        Psi

        Raises
        ------
        ValueError
            As in :class:`Psi`.

        Examples
        --------
        >>> import fluogan_core as fg
        >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
        >>> psi.replaced(photons_per_emitter=30).photons_per_emitter
        30.0
        """
        made = Psi(
            self.psf if psf is None else psf,
            self.shape,
            self.factor,
            binning=self.binning,
            photons_per_emitter=self.photons_per_emitter if photons_per_emitter is None else photons_per_emitter,
            backend=self.backend,
            method=self._asked_method if method is None else method,
            memory_budget=self.memory_budget,
        )
        return cast(Self, made) if type(self) is Psi else self._of_kind(made)  # a subclass keeps its class and attributes

    def scaled(self, width: float) -> Self:
        """Return the operator whose PSF is ``width`` times as wide, cut to the field where it would outgrow it.

        Parameters
        ----------
        width : float
            Relative, 0.1 to 10; at 1 this very operator comes back.

        Returns
        -------
        Psi

        Raises
        ------
        ValueError
            If the width is out of range, or nothing is left of the PSF.
        """
        if width == 1:
            return self
        return self.replaced(psf=cut_psf(scaled_psf(self.psf, width), self.fine_shape))

    # -- the operator -----------------------------------------------------------------------------------------------------

    def _checked(self, array: Array, shape: tuple[int, int], name: str, meaning: str) -> tuple[Array, tuple[int, ...]]:
        """Validate, bring to the dtype of the computation, and flatten the leading axes."""
        if backend_of(**{name: array}) != self.backend:
            raise ValueError(
                f"{name} is not on {self.backend.device}, where this Psi lives; move it with psi.backend.asarray({name})"
            )
        trailing_shape(array, shape, name, meaning)
        dtype = floating_dtype(array, name)
        return array.reshape(-1, *shape).astype(dtype, copy=False), tuple(array.shape[:-2])

    @cached_property
    def _squared_engine(self) -> Convolutions | Products:
        return self._tables.paired_engine((0, 0))

    @any_kind("x")
    def forward(self, x: Array) -> Array:
        """Return Psi x.

        Parameters
        ----------
        x : (..., N1, N2) array
            Expected emissions per fine pixel.  Floats of 64 bits are computed in float64, all other numbers in float32.  Values
            are not checked: a NaN or an overflow spreads over its image.

        Returns
        -------
        y : (..., M1, M2) float32 or float64
            Expected photons per camera pixel.

        Raises
        ------
        TypeError
            If x is not a NumPy or CuPy array of real numbers, or is a masked array.
        ValueError
            If x is of another shape or lives on another device.
        """
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        return self._engine.forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    @any_kind("y")
    def adjoint(self, y: Array) -> Array:
        """Return Psi^T y.

        Parameters
        ----------
        y : (..., M1, M2) array
            One number per camera pixel; dtypes as in :meth:`forward`.

        Returns
        -------
        x : (..., N1, N2) float32 or float64

        Raises
        ------
        TypeError, ValueError
            As in :meth:`forward`.
        """
        flat, lead = self._checked(y, self.shape, "y", "the camera grid")
        return self._engine.adjoint(flat, self.memory_budget).reshape(*lead, *self.fine_shape)

    @any_kind("x")
    def squared_forward(self, x: Array) -> Array:
        r"""Return :math:`\sum_i \Psi_{ji}^2 x_i`, the variance that the emission adds per pixel (for eq. 10).

        Parameters
        ----------
        x : (..., N1, N2) array
            Expected emissions per fine pixel; dtypes as in :meth:`forward`.

        Returns
        -------
        y : (..., M1, M2) float32 or float64
            Photons^2 per camera pixel.

        Raises
        ------
        TypeError, ValueError
            As in :meth:`forward`.
        """
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        return self._squared_engine.forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    @any_kind("y")
    def squared_adjoint(self, y: Array) -> Array:
        r"""Return :math:`\sum_j \Psi_{ji}^2 y_j`, the adjoint of :meth:`squared_forward`.

        Parameters
        ----------
        y : (..., M1, M2) array
            One number per camera pixel; dtypes as in :meth:`forward`.

        Returns
        -------
        x : (..., N1, N2) float32 or float64

        Raises
        ------
        TypeError, ValueError
            As in :meth:`forward`.
        """
        flat, lead = self._checked(y, self.shape, "y", "the camera grid")
        return self._squared_engine.adjoint(flat, self.memory_budget).reshape(*lead, *self.fine_shape)

    @any_kind("x")
    def paired_forward(self, x: Array, shift: tuple[int, int]) -> Array:
        r"""Return :math:`\sum_i \Psi_{ji} \Psi_{ki} x_i`, the covariance that the emission gives pixels j and k = j + shift.

        Parameters
        ----------
        x : (..., N1, N2) array
            Expected emissions per fine pixel; dtypes as in :meth:`forward`.
        shift : (int, int)
            Rows and columns from j to k, camera pixels.

        Returns
        -------
        y : (..., M1, M2) float32 or float64
            Photons^2, at j.  Where k lies outside the field: the covariance with what a pixel there would detect.

        Raises
        ------
        TypeError, ValueError
            As in :meth:`forward`; if ``shift`` is not two whole numbers.
        """
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        try:
            down, across = shift
        except (TypeError, ValueError):
            raise ValueError(f"shift must be (rows, columns), got {shift!r}") from None
        engine = self._tables.paired_engine((whole_number(down, "shift[0]"), whole_number(across, "shift[1]")))
        return engine.forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    def column(self, index: tuple[int, int]) -> Array:
        """Return the camera image of one emission, cut at the border of the field.

        Parameters
        ----------
        index : (int, int)
            Row and column of the fine pixel; negative numbers are outside.

        Returns
        -------
        image : (M1, M2) float64
            Expected photons per camera pixel.

        Raises
        ------
        IndexError
            If the fine pixel is outside the field.
        """
        n1, n2 = (whole_number(n, f"index[{axis}]") for axis, n in enumerate(index))
        for n, size, axis in ((n1, self.fine_shape[0], "row"), (n2, self.fine_shape[1], "column")):
            if not 0 <= n < size:
                raise IndexError(f"fine {axis} {n} is outside the field of {self.fine_shape[0]} x {self.fine_shape[1]}")
        return self.backend.asarray(self._tables.column(n1, n2))

    def as_linear_operator(self, dtype: DTypeLike = "float32") -> LinearOperator:
        """Return Psi as SciPy's sparse solvers take an operator: between flattened images.

        Parameters
        ----------
        dtype : {"float32", "float64"}
            In which products are computed and returned.

        Returns
        -------
        operator : (M1 M2, N1 N2) scipy.sparse.linalg.LinearOperator
            Takes and returns NumPy arrays.  All columns of a matrix are one batch, as in :meth:`forward`.

        Raises
        ------
        ValueError
            If ``dtype`` is another one.

        Examples
        --------
        >>> import fluogan_core as fg
        >>> from scipy.sparse.linalg import svds
        >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
        >>> largest = svds(psi.as_linear_operator("float64"), k=1, return_singular_vectors=False)[0]
        >>> bool(abs(largest / psi.norm - 1) < 1e-9)
        True
        """
        from .linear_operator import FlatOperator

        return FlatOperator(self, dtype)

    @cached_property
    def column_sums(self) -> Array:
        r""":math:`\|\Psi_i\|_1`, the photons of one emission that the field catches, (N1, N2) float64, read-only."""
        return read_only(self.adjoint(self.backend.xp.ones(self.shape, dtype=np.float64)))

    @cached_property
    def column_energies(self) -> Array:
        r""":math:`\|\Psi_i\|_2^2`, photons^2, (N1, N2) float64, read-only."""
        return read_only(self.squared_adjoint(self.backend.xp.ones(self.shape, dtype=np.float64)))

    @cached_property
    def axis_matrices(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The matrices R (M1, N1) and C (M2, N2) with Psi x = R x C^T, float64 on the host, read-only.

        None if the PSF is not a product of two lines.
        """
        matrices = self._tables.axis_matrices()
        if matrices is None:
            return None
        down, across = map(read_only, matrices)
        return down, across

    @cached_property
    def norm(self) -> float:
        r"""The largest singular value :math:`\|\Psi\|`, photons per emission, to rounding."""
        return spectral_norm(self)

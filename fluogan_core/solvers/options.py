"""What the solver can be told, with defaults that need no tuning by hand."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..backend.checks import one_of, real_number, whole_number
from ..critics.estimators import estimator_names

__all__ = ["SolverOptions"]


#: Phases that use an option.
MEAN, SECOND, NETWORK = ("mean", "covariance", "likelihood", "network"), ("covariance", "likelihood", "network"), ("network",)
RANDOM = ("likelihood", "network")


def _of(phases: tuple[str, ...], default: Any) -> Any:
    """A field that only these phases use."""
    return field(default=default, metadata={"phases": phases})


@dataclass(frozen=True)
class SolverOptions:
    r"""Options of :class:`fluogan_core.Solver`; all weights are dimensionless.

    Attributes
    ----------
    method : {"moments", "likelihood", "auto", "corrected", "coupled", "photon", "linear", "direct", "none"}
        ``"moments"`` takes the best critic among quadratic ones, which is known in closed form
        (:class:`fluogan_core.critics.quadratic.QuadraticCritic`), and leaves it out where flicker makes less than a tenth
        of the variance of the molecules' light, since covariances then say next to nothing.  ``"likelihood"`` draws the
        emissions of every frame and takes all that eq. (1) says, not mean and covariance alone; its image is the light emitted
        in these frames (:mod:`fluogan_core.solvers.likelihood_fit`); where its chains do not mix it goes on as ``"moments"``.
        ``"auto"`` is ``"moments"``, followed by the likelihood's fit where few enough emissions overlap, and kept unless
        unseen frames clearly speak against it (:mod:`fluogan_core.solvers.choice`).  The next five
        train a network, with this estimator of its gradient (see :func:`fluogan_core.critic_gradient`).  ``"none"`` fits
        the mean alone.
    warm_steps : int, optional
        FISTA steps on the mean before the critic is switched on.  By default 36 times the signal-to-noise of the mean
        frame, and at most 900.
    steps : int
        At most so many image steps with the critic; with ``"moments"`` each is 25 accelerated ones, and the phase ends
        where they gain next to nothing; with ``"likelihood"`` each is some sweeps over the emissions of all frames.
    critic_steps : int
        Adam steps of the critic before each image step.
    batch : int
        Frames per critic step, real and simulated each.
    gradient_frames : int
        Simulated frames per image step.
    relaxation : float
        Fraction of the safe steps on x and b that is taken in the critic's phase, so that the critic can follow.
    fidelity : float
        Weight of the mean's fit against the critic:
        :math:`\gamma = \mathrm{fidelity}\,\sqrt{T / M_1 M_2} / \bar v`, with :math:`\bar v` the mean temporal variance in
        photons^2.  At 1, a residual at the noise of the mean pulls as hard as a critic of slope 1.  The other weights are in
        units of gamma: without a critic it changes nothing.
    sparsity : float
        :math:`\lambda_1` in units of the noise that the mean frame's own noise :math:`\bar s` leaves in the gradient of x,
        :math:`\gamma\,\max_i\|\Psi_i\|_2\,\bar s`.  Asked where the image is dark (:mod:`fluogan_core.objective.reweighting`).
    total_variation : float
        What edges cost: :math:`\lambda_3 = \mathrm{total\_variation}\,\gamma\,\bar s^2 e^3 \kappa\,w / B`, with e the mean
        frame's noise over what its fluctuations explain where that is more than 1.5 (1 up to 1.25), w the PSF's standard
        deviation in fine pixels and B the brightest pixels of the mean frame above its darkest.  Relative to the light, so that
        dim stacks come out flatter.  It keeps the wide from being split and what is flat from being beaded; 0 leaves it out, as
        the paper does.
    smoothness : float, optional
        Length scale of the background in camera pixels: :math:`\lambda_2 = \gamma\,\mathrm{smoothness}^{2p}`.  What varies
        with periods below 2 pi times it is left to the molecules.  By default 2.6, or up to 5.2 where that predicts unseen
        photons as well (:mod:`fluogan_core.solvers.unseen_photons`).
    smoothness_order : int
        p, 1 to 8: how sharply.  1 is the paper's.
    detail : float
        Finest detail of the image in bright light: the standard deviation of the blur that it is sought through, as a fraction
        of the PSF's (:class:`fluogan_core.objective.blur.GaussianKernel`).
        Where the mean frame's signal-to-noise s is below 200,
        :math:`\sqrt{200 / s}` times that, and at most the PSF's.  Where s is below 400, what unseen photons speak for, finer or
        coarser, is taken (:mod:`fluogan_core.solvers.unseen_photons`).  The fit of the likelihood takes the least of that and
        0.13, or this if it is more.
    learning_rate, penalty : float
        Adam's step and the weight of the gradient penalty.
    channels, depth : int
        Size of the critic; the depth is cut on fields too small for it.
    held_out : float
        Fraction of the frames kept from the critic, for an honest Wasserstein estimate.  Only the critic: the mean frame is of
        all frames, so that with ``"moments"`` it is their covariance that is unseen.
    tolerance : float
        The mean fit ends earlier when the relative change of x per step falls below it.
    seed : int
        Seed of everything random.

    Raises
    ------
    ValueError, TypeError
        If an option is out of its range or of another kind, or differs from its default though the method does not use it.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> fg.SolverOptions(method="none", warm_steps=500).phases
    ('mean',)
    >>> fg.SolverOptions(method="none", batch=16)
    Traceback (most recent call last):
    ...
    ValueError: method='none' does not use batch; leave it out, or take a method with a network phase
    """

    method: str = "moments"
    warm_steps: int | None = _of(MEAN, None)
    steps: int = _of(SECOND, 40)
    critic_steps: int = _of(NETWORK, 5)
    batch: int = _of(NETWORK, 32)
    gradient_frames: int = _of(NETWORK, 64)
    relaxation: float = _of(NETWORK, 0.2)
    fidelity: float = _of(SECOND, 1.0)
    sparsity: float = _of(MEAN, 2.0)
    total_variation: float = _of(MEAN, 0.15)
    smoothness: float | None = _of(MEAN, None)
    smoothness_order: int = _of(MEAN, 8)
    detail: float = _of(MEAN, 0.09)
    learning_rate: float = _of(NETWORK, 1e-3)
    penalty: float = _of(NETWORK, 10.0)
    channels: int = _of(NETWORK, 32)
    depth: int = _of(NETWORK, 3)
    held_out: float = _of(SECOND, 0.1)
    tolerance: float = _of(MEAN, 1e-7)
    seed: int = _of(RANDOM, 0)

    def __post_init__(self) -> None:
        one_of(self.method, "method", (*estimator_names(), "moments", "likelihood", "auto", "none"))
        whole = {"steps": 0, "critic_steps": 1, "batch": 2, "gradient_frames": 1, "channels": 1, "depth": 1}
        if self.warm_steps is not None:
            whole["warm_steps"] = 0
        for name, low in whole.items():
            self._set(name, whole_number(getattr(self, name), name, low=low))
        self._set("smoothness_order", whole_number(self.smoothness_order, "smoothness_order", low=1, high=8))
        self._set("seed", whole_number(self.seed, "seed", low=0, high=2**64 - 1))
        for name in ("fidelity", "learning_rate"):
            self._set(name, real_number(getattr(self, name), name, low=0, open_low=True))
        for name in ("sparsity", "total_variation", "penalty", "tolerance"):
            self._set(name, real_number(getattr(self, name), name, low=0))
        if self.smoothness is not None:  # a length in camera pixels, of which powers are taken
            self._set("smoothness", real_number(self.smoothness, "smoothness", low=0, high=1e6))
        self._set("detail", real_number(self.detail, "detail", low=0, high=1))
        self._set("relaxation", real_number(self.relaxation, "relaxation", low=0, high=1, open_low=True))
        self._set("held_out", real_number(self.held_out, "held_out", low=0, high=0.5))
        self._refuse_idle()

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases of the method, in their order: of ``"mean"``, ``"likelihood"``, ``"covariance"``, ``"network"``."""
        second = {
            "none": (),
            "moments": ("covariance",),
            "likelihood": ("likelihood", "covariance"),
            "auto": ("covariance", "likelihood"),
        }
        return ("mean", *second.get(self.method, ("network",)))

    @property
    def idle(self) -> frozenset[str]:
        """Names of the options that the method does not use."""
        return frozenset(
            f.name for f in dataclasses.fields(self) if not set(f.metadata.get("phases", self.phases)) & set(self.phases)
        )

    def for_method(self, method: str) -> SolverOptions:
        """Return these options with another method; what it does not use has its default value.

        Parameters
        ----------
        method : str

        Returns
        -------
        SolverOptions

        Examples
        --------
        >>> SolverOptions(steps=10, detail=0.1).for_method("none")
        SolverOptions(method='none', warm_steps=None, steps=40, ...detail=0.1, ...)
        """
        idle = dataclasses.replace(SolverOptions(), method=method).idle
        defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(self) if f.name in idle}
        return dataclasses.replace(self, method=method, **defaults)

    def _refuse_idle(self) -> None:
        """Raise where an option differs from its default that the method does not use; a seed is welcome everywhere."""
        fields = {f.name: f for f in dataclasses.fields(self)}
        idle = [name for name in sorted(self.idle - {"seed"}) if getattr(self, name) != fields[name].default]
        if idle:
            users = sorted({phase for name in idle for phase in fields[name].metadata["phases"]})
            raise ValueError(
                f"method={self.method!r} does not use {', '.join(idle)}; leave {'it' if len(idle) == 1 else 'them'} out, or "
                f"take a method with a {' or '.join(users)} phase"
            )

    def _set(self, name: str, number: float) -> None:
        """Plain numbers: those of NumPy would not come back from a checkpoint."""
        object.__setattr__(self, name, number)

    def differences_from(self, other: dict[str, object]) -> list[str]:
        """Name the options, ``steps`` apart, in which other ones differ.

        Parameters
        ----------
        other : dict
            Options by their names.

        Returns
        -------
        list of str
        """
        mine = dataclasses.asdict(self)
        return [name for name, value in mine.items() if name != "steps" and other.get(name) != value]

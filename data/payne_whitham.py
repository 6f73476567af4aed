"""The Payne-Whitham equations of traffic flow: their parameters and waves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Complex128, Float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PayneWhitham:
    r"""Traffic as a fluid whose drivers anticipate and adapt; all of it per lane.

    .. math::
        \rho_t + (\rho v)_x &= s \\
        v_t + v v_x &= -P(\rho)_x / \rho + (V(\rho) - v) / \tau + \nu v_{xx}

    with density :math:`\rho` in veh/km, speed :math:`v` in km/h, ramps :math:`s`,
    pressure :math:`P = c_0^2 \rho` and the equilibrium speed :math:`V` of
    :func:`equilibrium_speed`. Vehicles join and leave at the speed of those around
    them, so the second equation has no term for ramps. What is true of it:

    - Without ramps the number of vehicles :math:`\int \rho\,dx` is conserved.
    - A constant :math:`\rho` with :math:`v = V(\rho)` is a solution.
    - Characteristics travel at :math:`v \pm c_0`.
    - Long, small waves travel at :math:`(\rho V)'`, :func:`kinematic_speed`: forward
      in free traffic, backward in a queue, at up to ``wave_speed``.
    - They grow into stop-and-go traffic where :math:`\rho |V'(\rho)| > c_0`; how each
      wave travels and grows is in :func:`growth_rates`.

    Attributes:
        free_speed: Speed on an empty road, and the highest, in km/h.
        wave_speed: Backward speed w of waves in a dense queue, in km/h.
        jam_density: Density of standing traffic, in veh/km per lane.
        sound_speed: Anticipation :math:`c_0`, in km/h.
        relaxation: Time :math:`\tau` in which drivers adapt their speed, in s.
        viscosity: Smoothing :math:`\nu`, in km^2/h.

    Raises:
        ValueError: If one is not a finite positive number (``viscosity`` may be 0).

    Example:
        >>> physics = PayneWhitham()
        >>> round(physics.capacity), round(physics.critical_density, 1)
        (2099, 28.8)

    References:
        arXiv 2602.10956, Eq. 31-32. Kerner and Konhaeuser, `Cluster effect in
        initially homogeneous traffic flow
        <https://doi.org/10.1103/PhysRevE.48.R2335>`_, 1993 (the sound speed). Daganzo,
        `Requiem for second-order fluid approximations of traffic flow
        <https://doi.org/10.1016/0191-2615(95)00007-Z>`_, 1995 (why a solver has to
        forbid vehicles to go backward).
    """

    free_speed: float = 108.0
    wave_speed: float = 20.0
    jam_density: float = 140.0
    sound_speed: float = 54.0
    relaxation: float = 20.0
    viscosity: float = 5.0

    def __post_init__(self) -> None:
        """Refuse parameters without a meaning."""
        for field in dataclasses.fields(self):
            number = getattr(self, field.name)
            if field.name == "viscosity":
                if not (np.isfinite(number) and number >= 0):
                    raise ValueError(
                        f"viscosity must be finite and not negative, got {number}."
                    )
            elif not (np.isfinite(number) and number > 0):
                raise ValueError(
                    f"{field.name} must be finite and above 0, got {number}."
                )

    @property
    def critical_density(self) -> float:
        """Density of the largest equilibrium flow, in veh/km per lane."""
        ratio = self.free_speed / self.wave_speed
        return self.jam_density / (1 + ratio**0.8)  # the root of (rho V)'

    @property
    def capacity(self) -> float:
        """Largest equilibrium flow, in veh/h per lane."""
        a = self.free_speed * self.critical_density
        b = self.wave_speed * (self.jam_density - self.critical_density)
        return a * b / (a**4 + b**4) ** 0.25

    @property
    def relaxation_hours(self) -> float:
        """The relaxation time in h, the unit of time of the equations."""
        return self.relaxation / 3600


def equilibrium_speed(
    physics: PayneWhitham, density: Float[ArrayLike, "*shape"]
) -> Float[Array, "*shape"]:
    r"""Speed at which traffic of a density settles.

    The flow :math:`\rho V` is a smooth minimum of what a free road, :math:`a = v_f
    \rho`, and a queue, :math:`b = w (\rho_{jam} - \rho)`, let through:

    .. math:: V(\rho) = v_f \, b / (a^4 + b^4)^{1/4}

    Args:
        physics: Parameters.
        density: Vehicles per km and lane, not negative.

    Returns:
        Speeds in km/h, shape of ``density``: the free speed on an empty road, 0 at
        the jam density and above.

    Example:
        >>> speeds = equilibrium_speed(PayneWhitham(), jnp.array([0.0, 70.0, 140.0]))
        >>> speeds.round().tolist()
        [108.0, 20.0, 0.0]
    """
    density = jnp.asarray(density)
    a = physics.free_speed * density
    b = physics.wave_speed * jnp.maximum(physics.jam_density - density, 0)
    return physics.free_speed * b / jnp.sqrt(jnp.sqrt(a**4 + b**4))


def kinematic_speed(
    physics: PayneWhitham, density: Float[ArrayLike, "*shape"]
) -> Float[Array, "*shape"]:
    r"""Speed at which long and small waves of density travel, :math:`(\rho V)'`.

    .. math:: (\rho V)' = v_f (Q / a)^5 - w (Q / b)^5, \qquad Q = \rho V

    with a and b of :func:`equilibrium_speed`; it falls from the free speed on an empty
    road to :math:`-w` at the jam density.

    Args:
        physics: Parameters.
        density: Vehicles per km and lane, from 0 to the jam density.

    Returns:
        Speeds in km/h, shape of ``density``; negative is against the traffic.

    Example:
        >>> kinematic_speed(PayneWhitham(), jnp.array([0.0, 140.0])).tolist()
        [108.0, -20.0]
    """
    density = jnp.asarray(density)
    a = physics.free_speed * density
    b = physics.wave_speed * (physics.jam_density - density)
    root = jnp.sqrt(jnp.sqrt(a**4 + b**4))
    forward, backward = physics.free_speed, physics.wave_speed
    return forward * (b / root) ** 5 - backward * (a / root) ** 5


def growth_rates(
    physics: PayneWhitham,
    density: float,
    wavelength: Float[ArrayLike, "*waves"],
) -> Complex128[np.ndarray, "..."]:
    r"""How small waves on uniform traffic travel and grow.

    A wave :math:`e^{i k x + \sigma t}`, :math:`k = 2 \pi / \lambda`, on density
    :math:`\rho` in equilibrium solves the linearised equations where :math:`z = \sigma
    + i k V` is a root of

    .. math::
        z^2 + (1 / \tau + \nu k^2) z + c_0^2 k^2 + i k \rho V'(\rho) / \tau = 0

    It travels at :math:`-\operatorname{Im} \sigma / k`, and grows where
    :math:`\operatorname{Re} \sigma > 0`. For long waves the first root travels at
    :func:`kinematic_speed`; the second dies within :math:`\tau`.

    Args:
        physics: Parameters.
        density: Density of the uniform traffic, in veh/km per lane.
        wavelength: Lengths of the waves in km.

    Returns:
        The rates in 1/h of the slow and the fast root, shape (2, ...).

    Example:
        >>> physics = PayneWhitham()
        >>> light, heavy = (growth_rates(physics, rho, 4.0)[0].real for rho in (15, 40))
        >>> bool(light < 0), bool(heavy > 0)  # free traffic is stable, a queue is not
        (True, True)

    References:
        Whitham, Linear and Nonlinear Waves, 1974, sections 3.1 and 10.1.
    """
    k = 2 * np.pi / np.asarray(wavelength, np.float64)
    with jax.enable_x64(True):
        speed = float(equilibrium_speed(physics, np.float64(density)))
        slope = float(kinematic_speed(physics, np.float64(density))) - speed  # rho V'
    half = (1 / physics.relaxation_hours + physics.viscosity * k**2) / 2
    constant = (physics.sound_speed * k) ** 2
    root = np.sqrt(half**2 - constant - 1j * k * slope / physics.relaxation_hours)
    moving = np.stack([root - half, -root - half])
    return moving - 1j * k * speed

"""A finite-volume solver of the Payne-Whitham equations on a network of roads."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from data.freeway_road import Mesh, Road, build_mesh
from data.payne_whitham import PayneWhitham, equilibrium_speed, face_flux

COURANT = 0.9  # share of the largest stable step that is taken


class FlowState(NamedTuple):
    """Traffic at an instant, in B independent copies of the road.

    Attributes:
        density: Vehicles per km and lane, shape (M, B).
        speed: Speeds in km/h, shape (M, B).
        queue: Vehicles that wait outside each entry, shape (R, B).
    """

    density: Float[ArrayLike, "M B"]
    speed: Float[ArrayLike, "M B"]
    queue: Float[ArrayLike, "R B"]


class Simulation(NamedTuple):
    """Traffic over T intervals in B copies of the road.

    Attributes:
        density: Mean over each interval, in veh/km per lane, shape (T, M, B).
        speed: Distance driven in a cell divided by the time spent there, in km/h,
            shape (T, M, B).
        entered: Vehicles that came on the road in each interval, shape (T, B).
        left: Vehicles that left it by its ends and off-ramps, shape (T, B).
        queue: Vehicles that wait outside each entry at the end of each interval, shape
            (T, R, B).
        final: The state at the end.
    """

    density: Float[Array, "T M B"]
    speed: Float[Array, "T M B"]
    entered: Float[Array, "T B"]
    left: Float[Array, "T B"]
    queue: Float[Array, "T R B"]
    final: FlowState


def stable_step(physics: PayneWhitham, cell_km: float) -> float:
    r"""The time step that the solver may take at most.

    No wave is faster than :math:`v_f + c_0`, for speeds are held in :math:`[0, v_f]`.
    The step :math:`\Delta t` keeps those waves and the viscosity within one cell,

    .. math:: \Delta t \left(\frac{v_f + c_0}{\Delta x}
        + \frac{2 \nu}{\Delta x^2}\right) = 0.9

    Args:
        physics: Parameters.
        cell_km: Length of a cell in km.

    Returns:
        The step in h.

    Example:
        >>> round(3600 * stable_step(PayneWhitham(), 0.25), 2)  # seconds
        4.01
    """
    rate = (physics.free_speed + physics.sound_speed) / cell_km
    return COURANT / (rate + 2 * physics.viscosity / cell_km**2)


def _advance(
    physics: PayneWhitham,
    mesh: Mesh,
    state: FlowState,
    demand: Float[Array, "R B"],
    open_share: Float[Array, "M B"],
    hours: Float[Array, ""],
) -> tuple[FlowState, Float[Array, " B"], Float[Array, " B"]]:
    """One step, and how many vehicles entered and left in it."""
    density, speed, queue = (jnp.asarray(field) for field in state)
    nothing = jnp.zeros_like(density[:1])

    def behind(row: Array) -> Array:
        return jnp.concatenate([row, nothing])[mesh.up]  # (M, F, B)

    # Beyond an end the road is free: traffic there is at most critical, and flows.
    critical = physics.critical_density
    free = jnp.maximum(speed, physics.capacity / critical)
    beyond = (mesh.ends > 0) & (density > critical)
    density_next = jnp.where(beyond, critical, density[mesh.down])
    speed_next = jnp.where(beyond, free, speed[mesh.down])

    # Transport, in increments: uniform traffic stays as it is, to the bit.
    through = face_flux(physics, (density, density_next), (speed, speed_next))
    vehicles, momentum = (mesh.face_lanes * flow for flow in through)
    exiting = mesh.exit_share * vehicles  # at the speed of the cell that they leave
    onward, carried = vehicles - exiting, momentum - exiting * speed
    pressure = physics.sound_speed**2 * density * mesh.nozzle
    step = hours / (mesh.lanes * mesh.cell_km)
    gain = step * (behind(onward).sum(1) - vehicles)
    push = step * (behind(carried).sum(1) - momentum + pressure)
    bend = (mesh.up_weight * (behind(speed) - speed[:, None])).sum(1)
    bend = physics.viscosity * (bend + speed_next - speed) / mesh.cell_km**2
    moved = density + gain
    changed = speed + (push - speed * gain) / jnp.maximum(moved, 1e-9) + hours * bend

    # On-ramps: vehicles join as far as there is room.
    room = jnp.minimum(
        physics.capacity,
        physics.wave_speed * (open_share * physics.jam_density - density),
    )[mesh.entry_cells]
    waiting = queue + hours * demand
    joining = jnp.minimum(waiting, hours * mesh.entry_lanes * jnp.maximum(room, 0))
    joined = jnp.concatenate([joining, nothing])[mesh.entry_of]
    moved = moved + joined / (mesh.lanes * mesh.cell_km)
    left = hours * jnp.where(mesh.ends > 0, vehicles, exiting)

    # Drivers adapt: the exact solution at fixed density. None reverses or speeds.
    wanted = equilibrium_speed(physics, moved / open_share)
    kept = jnp.exp(-hours / physics.relaxation_hours)
    adapted = jnp.clip(wanted + (changed - wanted) * kept, 0, physics.free_speed)
    state = FlowState(moved, adapted, waiting - joining)
    return state, joining.sum(0), left.sum(0)


@functools.partial(jax.jit, static_argnames=("physics", "steps"))
def _run(
    physics: PayneWhitham,
    mesh: Mesh,
    start: FlowState,
    demand: Float[Array, "T R B"],
    open_share: Float[Array, "T M B"],
    interval: Float[Array, ""],
    steps: int,
) -> Simulation:
    def substep(_: Array, carry: tuple) -> tuple:
        state, sums, (wanted, free) = carry
        state, entered, left = _advance(
            physics, mesh, state, wanted, free, interval / steps
        )
        density, speed, _ = map(jnp.asarray, state)
        now = (density, density * speed, speed, entered, left)
        added = tuple(a + b for a, b in zip(sums, now, strict=True))
        return state, added, (wanted, free)

    def one_interval(state: FlowState, now: tuple) -> tuple:
        zero = jnp.zeros_like(state.density)
        carry = (state, (zero, zero, zero, zero[0], zero[0]), now)
        state, sums, _ = jax.lax.fori_loop(0, steps, substep, carry)
        density, distance, speed, entered, left = sums
        busy = density > 0
        speed = jnp.where(busy, distance / jnp.where(busy, density, 1), speed / steps)
        return state, (density / steps, speed, entered, left, state.queue)

    final, fields = jax.lax.scan(one_interval, start, (demand, open_share))
    density, speed, entered, left, queue = fields
    return Simulation(density, speed, entered, left, queue, final)


def simulate(
    physics: PayneWhitham,
    road: Road,
    start: FlowState,
    demand: Float[ArrayLike, "T R B"],
    open_share: Float[ArrayLike, "T M B"],
    *,
    interval: float = 1 / 12,
    steps: int | None = None,
) -> Simulation:
    r"""Solve the Payne-Whitham equations over T intervals, B copies of a road at once.

    A step moves vehicles and momentum by the fluxes of `face_flux` (finite volumes;
    where lanes end, with the push of a narrowing channel), then lets ramps feed, then
    relaxes to the equilibrium speed, exactly at fixed density. It is of first order in
    space and time. An off-ramp takes its share of the flow through the end of its cell,
    at the speed of that cell; the rest goes on. A queue beyond it holds up both. For
    each copy, to rounding,

    .. math:: \sum_m \ell_m \rho_m \Delta x \Big|_{end}
        - \sum_m \ell_m \rho_m \Delta x \Big|_{start} = entered - left

    with lanes :math:`\ell_m`; and what was demanded has entered or waits in a queue.
    An entry lets in no more than its capacity and the room in its cell. Where only a
    share :math:`\phi` of a cell is open, drivers see the density :math:`\rho / \phi`.
    Beyond the end of a road traffic is never denser than at capacity. Speeds are cut at
    0 and at the free speed, and no vehicle goes backward (see `face_flux`).

    Args:
        physics: Parameters.
        road: The cells.
        start: The state at the beginning; density not negative, speed from 0 to the
            free speed.
        demand: Vehicles that want to enter, in veh/h, constant over an interval.
        open_share: Share of each cell that is open, above 0 up to 1.
        interval: Length of an interval in h; five minutes by default.
        steps: Time steps in an interval; by default as many as :func:`stable_step`
            asks for. Fewer than that is not stable.

    Returns:
        Means over the intervals, and the state at the end.

    Raises:
        ValueError: If shapes do not fit, or a number is out of its range.

    Example:
        >>> physics = PayneWhitham()
        >>> ring = Road(
        ...     cell_km=0.25,
        ...     lanes=np.full(8, 2.0),
        ...     next_cell=(np.arange(8) + 1) % 8,
        ...     entry_cells=np.zeros(0, int),
        ...     entry_lanes=np.zeros(0),
        ...     exit_share=np.zeros(8),
        ... )
        >>> density = np.linspace(10, 40, 8)[:, None]
        >>> start = FlowState(density, np.full((8, 1), 60.0), np.zeros((0, 1)))
        >>> nobody, all_open = np.zeros((6, 0, 1)), np.ones((6, 8, 1))
        >>> run = simulate(physics, ring, start, nobody, all_open)
        >>> run.speed.shape, round(float(run.density[-1].sum() / density.sum()), 12)
        ((6, 8, 1), 1.0)
    """
    least = math.ceil(interval / stable_step(physics, road.cell_km))
    steps = least if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    _check(physics, road, start, demand, open_share)
    with jax.enable_x64(True):
        start, demand, open_share, hours = jax.tree.map(
            lambda part: jnp.asarray(part, jnp.float64),
            (start, demand, open_share, interval),
        )
        mesh = build_mesh(road)
        return _run(physics, mesh, start, demand, open_share, hours, steps)


def _check(
    physics: PayneWhitham,
    road: Road,
    start: FlowState,
    demand: Float[ArrayLike, "T R B"],
    open_share: Float[ArrayLike, "T M B"],
) -> None:
    M, R = len(road.lanes), len(road.entry_cells)
    T, B = len(np.asarray(demand)), np.shape(start.density)[-1]
    parts = {
        "start.density": (start.density, (M, B), 0, np.inf),
        "start.speed": (start.speed, (M, B), 0, physics.free_speed),
        "start.queue": (start.queue, (R, B), 0, np.inf),
        "demand": (demand, (T, R, B), 0, np.inf),
        "open_share": (open_share, (T, M, B), 1e-3, 1),
    }
    for name, (numbers, shape, low, high) in parts.items():
        numbers = np.asarray(numbers)
        if numbers.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {numbers.shape}.")
        wrong = ~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high))
        if wrong.any():
            raise ValueError(
                f"{name} must be finite and from {low} to {high}, got "
                f"{numbers[wrong][0]}."
            )

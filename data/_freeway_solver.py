r"""A finite-volume solver of the Payne-Whitham equations on a network of roads.

A step moves vehicles and momentum by the fluxes through the faces between cells (where
lanes end, with the push of a narrowing channel), then lets ramps feed, then relaxes to
the equilibrium speed, exactly at fixed density. It is of first order in space and time.

**Fluxes.** With :math:`F = (\rho v, \rho v^2 + c_0^2 \rho)`, states :math:`U = (\rho,
\rho v)`, and :math:`S_-, S_+` the slowest and fastest characteristic of both sides, cut
at 0, the flow through a face is (Harten, Lax and van Leer, `On upstream differencing
and Godunov-type schemes for hyperbolic conservation laws
<https://doi.org/10.1137/1025002>`_, 1983)

.. math:: F_L + S_- \frac{S_+ (U_R - U_L) - (F_R - F_L)}{S_+ - S_-}

It is F of the two sides where they agree. Vehicles do not go backward: their flow is
cut at 0, which alone keeps this model from letting a queue spill backward into an empty
road.

**Steps.** No wave is faster than :math:`v_f + c_0`, for speeds are held in :math:`[0,
v_f]`. The step :math:`\Delta t` keeps those waves and the viscosity within one cell,

.. math:: \Delta t \left(\frac{v_f + c_0}{\Delta x}
    + \frac{2 \nu}{\Delta x^2}\right) = 0.9

**Ramps and ends.** An entry lets in no more than its capacity and the room in its cell.
An off-ramp takes its share of the flow through the end of its cell, at the speed of
that cell; the rest goes on. A queue beyond it holds up both. Where only a share
:math:`\phi` of a cell is open, drivers see the density :math:`\rho / \phi`. Beyond the
end of a road traffic is never denser than at capacity.

**What is conserved**, to rounding, with lanes :math:`\ell_m`:

.. math:: \sum_m \ell_m \rho_m \Delta x \Big|_{end}
    - \sum_m \ell_m \rho_m \Delta x \Big|_{start} = entered - left

and what was demanded has entered or waits in a queue.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from data._road import Mesh, Road, build_mesh
from data.payne_whitham import PayneWhitham, equilibrium_speed

_COURANT = 0.9  # share of the largest stable step that is taken


class Flow(NamedTuple):
    """What passes a point of the road in a lane."""

    vehicles: Float[Array, "*shape"]  # in veh/h
    momentum: Float[Array, "*shape"]  # vehicles times speed, and pressure: veh km/h^2


class FlowState(NamedTuple):
    """Traffic at an instant, in B independent copies of a road."""

    density: Float[ArrayLike, "M B"]  # veh/km per lane
    speed: Float[ArrayLike, "M B"]  # km/h, from 0 to the free speed
    queue: Float[ArrayLike, "R B"]  # vehicles that wait outside each entry


class Simulation(NamedTuple):
    """Traffic over T intervals in B copies of a road."""

    density: Float[Array, "T M B"]  # mean over each interval, in veh/km per lane
    speed: Float[Array, "T M B"]  # distance driven by the time spent, in km/h
    entered: Float[Array, "T B"]  # vehicles that came on the road
    left: Float[Array, "T B"]  # vehicles that left it by its ends and off-ramps
    queue: Float[Array, "T R B"]  # at the end of each interval
    final: FlowState


def flux(
    physics: PayneWhitham,
    density: Float[ArrayLike, "*shape"],
    speed: Float[ArrayLike, "*shape"],
) -> Flow:
    """The flow that traffic carries."""
    density, speed = jnp.asarray(density), jnp.asarray(speed)
    vehicles = density * speed
    return Flow(vehicles, vehicles * speed + physics.sound_speed**2 * density)


def face_flux(
    physics: PayneWhitham,
    density: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
    speed: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
) -> Flow:
    """The flow through faces, of the states upstream and downstream of them."""
    up, down = (flux(physics, *side) for side in zip(density, speed, strict=True))
    sound = physics.sound_speed
    slow = jnp.minimum(jnp.minimum(*speed) - sound, 0)
    fast = jnp.maximum(*speed) + sound
    share = slow / (fast - slow)
    vehicles = up.vehicles + share * (
        fast * (density[1] - density[0]) - (down.vehicles - up.vehicles)
    )
    momentum = up.momentum + share * (
        fast * (down.vehicles - up.vehicles) - (down.momentum - up.momentum)
    )
    return Flow(jnp.maximum(vehicles, 0), momentum)


def stable_step(physics: PayneWhitham, cell_km: float) -> float:
    """The time step that the solver may take at most, in h."""
    rate = (physics.free_speed + physics.sound_speed) / cell_km
    return _COURANT / (rate + 2 * physics.viscosity / cell_km**2)


def simulate(
    physics: PayneWhitham,
    road: Road,
    start: FlowState,
    demand: Float[ArrayLike, "T R B"],
    open_share: Float[ArrayLike, "T M B"],
    *,
    interval: float = 1 / 12,  # h
    steps: int | None = None,  # in an interval; None: as few as are stable
) -> Simulation:
    """Solve over T intervals, B copies of a road at once; demand is in veh/h."""
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

"""How many sidecars a handler wants: what comes, how long each takes, and what waits already.

In slots, of which a sidecar has several:

- **steady**: by Little's law ``arrivals a second * seconds that each takes a slot`` of them are
  busy all the time. They are to be busy for ``BUSY_SHARE`` of it, since a queue before slots that
  are always busy grows without end. Slots that are taken now are wanted in any case: an hour's
  work must not lose its sidecar because nothing came for a minute.
- **catching up**: of ``ready`` tasks each slot begins one every lease, so that ``ready * lease /
  objective`` slots begin all of them within the objective; one slot for each is always enough.

Their sum, at most the handler's concurrency, is divided by the slots that a sidecar has: what
those that serve the handler hold and would take, on average. A task takes its slot from grant to
outcome, which is a little longer than its run, just as sidecars ask for a little more than they
run: the two go together.

While it is not known how long a task takes, or how many slots a sidecar has (none serves it, or
none would take anything), the answer is as many as there are, and at least one if there is
anything to do. Tasks that are held by a gate want nothing.
"""

import math
from dataclasses import dataclass

from coordinator.core.effects import Now
from coordinator.core.handler import Handler
from coordinator.core.rates import Rates
from coordinator.core.sessions import Session
from protocol.limits import SESSIONS_MAX
from protocol.units import format_duration_ms

BUSY_SHARE = 0.8
UNHURRIED_MS = 300_000
"""In what time a backlog is to begin where its handler has no objective."""
_TINY = 1e-9
"""What rounding of floats may add to a whole number."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a handler."""

    ready: int
    """Ready tasks that no gate holds."""
    leased: int
    arrivals_per_second: float
    """Tasks that become ready, over the last minute."""
    lease_ms: float | None
    """How long each takes a slot, on average; null while no attempt has ended."""
    start_within_ms: int
    """The objective; 0 is none."""
    concurrency: int
    """Leases at one time; 0 is no limit."""
    sidecars: int
    """How many serve it."""
    slots: int
    """What these hold of it and would take."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many sidecars a handler wants, and why."""

    desired: int
    steady_slots: float
    """For what comes and what runs."""
    catch_up_slots: float
    """For what waits."""
    slots_per_sidecar: float | None
    """Null while it is not known."""
    why: str


def serving(handler: Handler) -> list[Session]:
    """Return the sessions that a handler can count on."""
    return [session for session in handler.sessions if session.drain is None]


def load_of(handler: Handler, rates: Rates, now: Now) -> Load:
    """Return what is known of a handler."""
    pace = rates.pace(now.ms, handler)
    policy = handler.policy
    sessions = serving(handler)
    return Load(
        ready=handler.ready - handler.held,
        leased=handler.leased,
        arrivals_per_second=round(pace.arrivals_per_second, 3),
        lease_ms=None if pace.lease_ms is None else round(pace.lease_ms, 3),
        start_within_ms=policy.start_within_ms,
        concurrency=policy.concurrency,
        sidecars=len(sessions),
        slots=handler.leased + sum([max(0, session.demand(handler)) for session in sessions]),
    )


def wanted(load: Load) -> Wanted:
    """Return how many sidecars a handler wants."""
    steady = catch_up = 0.0
    if load.lease_ms is not None:
        objective_ms = load.start_within_ms or UNHURRIED_MS
        steady = load.arrivals_per_second * load.lease_ms / 1_000 / BUSY_SHARE
        catch_up = load.ready * min(1.0, load.lease_ms / objective_ms)
    steady = max(steady, load.leased)
    each = load.slots / load.sidecars if load.sidecars and load.slots else None
    if not (load.ready or load.leased or load.arrivals_per_second > 0):
        desired, why = 0, "nothing comes, waits or runs"
    elif load.lease_ms is None or each is None:
        desired = max(1, load.sidecars)
        what = "how many slots a sidecar has" if each is None else "how long a task takes"
        why = f"as many as there are, at least 1: it is not known yet {what}"
    else:
        slots = steady + catch_up
        if load.concurrency:
            slots = min(slots, load.concurrency)
        desired = max(1, math.ceil(slots / each - _TINY))
        why = _why(load, steady, catch_up, each)
    return Wanted(
        desired=min(desired, SESSIONS_MAX),
        steady_slots=round(steady, 3),
        catch_up_slots=round(catch_up, 3),
        slots_per_sidecar=None if each is None else round(each, 3),
        why=why,
    )


def _why(load: Load, steady: float, catch_up: float, each: float) -> str:
    soon = format_duration_ms(load.start_within_ms or UNHURRIED_MS)
    parts = [f"{steady:.4g} slots for what comes and runs"]
    if load.ready:
        parts.append(f"{catch_up:.4g} for {load.ready} that wait, to begin within {soon}")
    if load.concurrency and steady + catch_up > load.concurrency:
        parts.append(f"at most {load.concurrency} may run at a time")
    return f"{', '.join(parts)}; a sidecar has {each:.4g}"

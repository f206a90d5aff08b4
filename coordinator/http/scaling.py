"""How many sidecars a handler wants, for what scales its service: KEDA, or an HPA."""

from dataclasses import dataclass

from coordinator.core import scaling
from coordinator.core.scaling import Load
from coordinator.http.access import Access
from coordinator.http.problems import unknown_handler
from coordinator.http.routes import Request, Route


@dataclass(frozen=True, slots=True)
class Scale:
    """How many sidecars a handler wants, why, and from what that follows."""

    handler: str
    desired: int
    why: str
    steady_slots: float
    """For what comes and what runs."""
    catch_up_slots: float
    """For what waits."""
    slots_per_sidecar: float | None
    """Null while it is not known."""
    load: Load


async def scale(access: Access, request: Request) -> Scale:
    """Tell how many sidecars a handler wants."""
    handler = access.ledger.handlers.get(request.path["name"])
    if handler is None:
        raise unknown_handler(request.path["name"])
    load = scaling.load_of(handler, access.observation.rates, access.now())
    found = scaling.wanted(load)
    return Scale(
        handler=handler.name,
        desired=found.desired,
        why=found.why,
        steady_slots=found.steady_slots,
        catch_up_slots=found.catch_up_slots,
        slots_per_sidecar=found.slots_per_sidecar,
        load=load,
    )


ROUTES = (
    Route(
        "/v1/scale/{name}",
        "How many sidecars a handler wants",
        Scale,
        scale,
        problems=("unknown_handler",),
    ),
)

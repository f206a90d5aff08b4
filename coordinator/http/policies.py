"""An operator's changes of a handler's policy."""

from dataclasses import dataclass

from coordinator.core import overview
from coordinator.core.operations import RevertPolicy, SetPolicy
from coordinator.core.overview import HandlerDetail
from coordinator.http.access import Access
from coordinator.http.operating import BY, DRY_RUN, by_of, by_query, operate
from coordinator.http.problems import Problem
from coordinator.http.routes import Parameter, Request, Route


@dataclass(frozen=True, slots=True)
class PolicyBody:
    """Fields of a policy to be changed."""

    changes: dict[str, int]
    owner: str
    """Who changes them."""
    reason: str = ""


async def patch(access: Access, request: Request) -> HandlerDetail:
    """Change fields of a handler's policy."""
    body = request.body
    if not body.changes:
        raise Problem("invalid_body", "changes is empty")
    by = by_of(body.owner, body.reason)
    dry_run = request.query["dry_run"]
    handler = await operate(access, SetPolicy(request.path["name"], body.changes, by, dry_run))
    return overview.handler_detail(access.ledger, handler, access.observation.rates, access.now())


async def delete(access: Access, request: Request) -> HandlerDetail:
    """Let what the owner declares count again."""
    fields = tuple(name for name in request.query["fields"].split(",") if name)
    dry_run = request.query["dry_run"]
    operation = RevertPolicy(request.path["name"], fields, by_query(request), dry_run)
    handler = await operate(access, operation)
    return overview.handler_detail(access.ledger, handler, access.observation.rates, access.now())


_PATH = "/v1/handlers/{name}/policy"
ROUTES = (
    Route(
        _PATH,
        "Change a handler's policy, over what its owner declares",
        HandlerDetail,
        patch,
        parameters=(DRY_RUN,),
        problems=("unknown_handler", "invalid_body", "invalid_policy", "stopping"),
        method="PATCH",
        body=PolicyBody,
    ),
    Route(
        _PATH,
        "Let a handler's policy be as its owner declares it",
        HandlerDetail,
        delete,
        parameters=(Parameter("fields", "Which, with commas between; all if empty"), DRY_RUN, *BY),
        problems=("unknown_handler", "invalid_policy", "unknown_override", "stopping"),
        method="DELETE",
    ),
)

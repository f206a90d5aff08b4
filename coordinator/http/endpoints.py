"""All paths there are. To add one: a row here; the router and the document follow."""

from dataclasses import dataclass, replace
from typing import Any

from coordinator.core import overview
from coordinator.core.overview import HandlerDetail, HandlerRow
from coordinator.core.task_view import TaskDetail
from coordinator.http import (
    audit,
    backup,
    changes,
    dead,
    event_stream,
    exposition,
    gates,
    health,
    metrics,
    oldest,
    openapi,
    operations,
    policies,
    scaling,
    scrub,
    sidecars,
    status,
    tasks,
)
from coordinator.http.access import Access
from coordinator.http.problems import unknown_handler
from coordinator.http.routes import Parameter, Request, Route


@dataclass(frozen=True, slots=True)
class HandlerList:
    """All handlers, by name."""

    handlers: list[HandlerRow]


@dataclass(frozen=True, slots=True)
class Document:
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    security: list[Any]


async def _handlers(access: Access, _request: Request) -> HandlerList:
    return HandlerList(await status.handler_rows(access, access.now()))


async def _handler(access: Access, request: Request) -> HandlerDetail:
    name = request.path["name"]
    handler = access.ledger.handlers.get(name)
    if handler is None:
        raise unknown_handler(name)
    now = access.now()
    detail = overview.handler_detail(access.ledger, handler, access.observation.rates, now)
    age = (await oldest.oldest_of(access, [handler], now)).get(handler.number)
    return replace(detail, handler=replace(detail.handler, oldest_ready_ms=age))


async def _status(access: Access, _request: Request) -> status.StatusReport:
    return await status.report(access)


async def _document(_access: Access, _request: Request) -> Document:
    return Document(**openapi.document(ROUTES))


_verbose = Parameter("verbose", "Tell each check", bool, default=False)
ROUTES = (
    Route("/livez", "Whether the process lives", health.Health, health.live, open_to_all=True),
    Route(
        "/readyz",
        "Whether submissions are accepted",
        health.Health,
        health.ready,
        parameters=(_verbose,),
        open_to_all=True,
    ),
    Route(
        "/startupz",
        "Whether the store has been read",
        health.Health,
        health.started,
        open_to_all=True,
    ),
    Route("/metrics", "Metrics for Prometheus", exposition.MEDIA_TYPE, metrics.scrape),
    Route("/openapi.json", "This document", Document, _document, open_to_all=True),
    Route("/v1/status", "One screen of facts", status.StatusReport, _status),
    Route("/v1/handlers", "All handlers", HandlerList, _handlers),
    Route(
        "/v1/handlers/{name}",
        "One handler",
        HandlerDetail,
        _handler,
        problems=("unknown_handler",),
    ),
    *policies.ROUTES,
    *scaling.ROUTES,
    *gates.ROUTES,
    *audit.ROUTES,
    *sidecars.ROUTES,
    Route(
        "/v1/tasks",
        "The tasks that a filter means, page by page",
        tasks.TaskPage,
        tasks.page,
        parameters=tasks.PARAMETERS,
        problems=("invalid_filter", "invalid_cursor"),
    ),
    Route("/v1/tasks/{id}", "One task", TaskDetail, tasks.one, problems=("unknown_task",)),
    *changes.ROUTES,
    *operations.ROUTES,
    *dead.ROUTES,
    Route(
        "/v1/backup",
        "The store's file: a consistent, compact copy",
        backup.MEDIA_TYPE,
        stream=backup.backup,
        parameters=backup.PARAMETERS,
        problems=("backup_running", "no_room", "token_needed"),
        guarded=True,
    ),
    Route(
        "/v1/backup/plan",
        "What a backup would take",
        backup.BackupPlan,
        backup.plan,
        parameters=backup.PARAMETERS,
    ),
    Route(
        "/v1/scrub",
        "Look for damage in a slice of the store",
        scrub.Slice,
        scrub.scrub,
        parameters=scrub.PARAMETERS,
        problems=("invalid_cursor",),
    ),
    Route(
        "/v1/events",
        "Events as they happen",
        event_stream.MEDIA_TYPE,
        stream=event_stream.events,
        parameters=event_stream.PARAMETERS,
        problems=("too_many_watchers",),
    ),
)

"""What there is: the OpenAPI document and a short list, both of the table that serves."""

import json
from functools import cache

from protocol.version import SOFTWARE
from sidecar.http.exchange import JSON, Exchange, Route
from sidecar.http.openapi import content, document, problems
from sidecar.http.router import Router

OPENAPI_PATH = "/openapi.json"
INDEX_PATH = "/v1"


def routes(router: Router) -> list[Route]:
    """Return the routes that tell of all routes of a router, these among them."""

    @cache
    def openapi() -> bytes:
        return document(router.routes)

    @cache
    def index() -> bytes:
        listed = {f"{r.method} {r.path}": r.operation["summary"] for r in router.routes}
        return json.dumps({"pillion": SOFTWARE, "openapi": OPENAPI_PATH, "routes": listed}).encode()

    def tell_openapi(exchange: Exchange) -> None:
        exchange.tell(200, openapi())

    def tell_index(exchange: Exchange) -> None:
        exchange.tell(200, index())

    def operation(summary: str, operation_id: str) -> dict[str, object]:
        body = content(JSON, {"type": "object"})
        told = {"200": {"description": "It is this.", **body}}
        return {
            "summary": summary,
            "operationId": operation_id,
            "responses": {**told, **problems()},
        }

    return [
        Route("GET", INDEX_PATH, tell_index, operation("What there is", "index")),
        Route("GET", OPENAPI_PATH, tell_openapi, operation("This document", "openapi")),
    ]

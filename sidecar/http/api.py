"""The routes that every sidecar has."""

from sidecar.http import health
from sidecar.http.exchange import Route


def routes() -> list[Route]:
    """Return the routes; the document is made from them."""
    return [
        Route("GET", "/livez", health.live, {"summary": "Whether the process answers"}),
        Route("GET", "/readyz", health.ready, {"summary": "Whether the coordinator is reached"}),
    ]

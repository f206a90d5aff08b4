"""Which function a request goes to: one table of routes, and an error that names what is near."""

import difflib
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

from sidecar.http.exchange import Exchange, Route
from sidecar.http.problems import Problem

QUERY_FIELDS_MAX = 64
SHOWN_CHARS_MAX = 80

_Parts = tuple[str, ...]


class Router:
    """The routes of a server, by method and number of parts."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes: list[Route] = []
        self._table: dict[tuple[str, int], list[tuple[_Parts, Route]]] = {}
        self.add(routes)

    def add(self, routes: Iterable[Route]) -> None:
        """Add routes; of two that fit a path, the one added first has it."""
        for route in routes:
            self.routes.append(route)
            parts = tuple(route.path.split("/"))
            self._table.setdefault((route.method, len(parts)), []).append((parts, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a path, and what its open parts are.

        Raises:
            Problem: There is none, or none for this method.
        """
        parts = path.split("/")
        found = self._find("GET" if method == "HEAD" else method, parts)
        if found is None:
            raise self._problem(method, path, parts)
        return found

    def _find(self, method: str, parts: list[str]) -> tuple[Route, dict[str, str]] | None:
        for pattern, route in self._table.get((method, len(parts)), ()):
            params = {}
            for expected, part in zip(pattern, parts, strict=True):
                if expected != part:
                    if expected[:1] != "{" or not part:
                        break
                    params[expected[1:-1]] = unquote(part) if "%" in part else part
            else:
                return route, params
        return None

    def _problem(self, method: str, path: str, parts: list[str]) -> Problem:
        shown = path[:SHOWN_CHARS_MAX]
        methods = sorted({m for m, _ in self._table if self._find(m, parts)})
        if methods:
            allow = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            detail = f"{shown} does not take {method}"
            return Problem(405, "method_not_allowed", detail, f"it takes {allow}", allow=allow)
        dotted = [*parts[:-2], ".".join(parts[-2:])]
        if self._find(method, dotted):  # A handler's name, such as email.send, spelt as a path.
            hint = f"did you mean {'/'.join(dotted)[:SHOWN_CHARS_MAX]}?"
            return Problem(404, "unknown_path", f"there is nothing at {shown}", hint)
        paths = {route.path for route in self.routes}
        near = difflib.get_close_matches(shown, paths, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "GET /v1 lists what there is"
        return Problem(404, "unknown_path", f"there is nothing at {shown}", hint)


def read_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Return the path and the query of a request's target.

    Raises:
        Problem: It is no target that this server can have.
    """
    path, _, query = target.decode("latin-1").partition("?")
    if path[:1] != "/":
        scheme, found, rest = path.partition("://")
        path = "/" + rest.partition("/")[2] if found and scheme.isalpha() else path
    if not query:
        return path, {}
    try:
        fields = parse_qsl(
            query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        detail = f"the query cannot be read: {error}"
        raise Problem(
            400, "invalid_query", detail, "give name=value&..., percent-encoded"
        ) from None
    return path, dict(fields)


def dispatch(route: Route | Problem, exchange: Exchange) -> None:
    """Call the function of a request's route; answer an error that it raises."""
    try:
        if isinstance(route, Problem):
            route.answer(exchange)
        else:
            route.function(exchange)
    except Problem as problem:
        problem.answer(exchange)

"""The OpenAPI 3.1 document, made from the routes."""

import re
from collections.abc import Sequence
from typing import Any

from coordinator.http.forms import Schema, schema_of
from coordinator.http.problems import CODES, MEDIA_TYPE, ProblemBody
from coordinator.http.routes import Parameter, Route
from protocol.version import SOFTWARE

_ALWAYS = ("unknown_parameter", "invalid_parameter", "foreign_host", "unauthorized", "internal")
_VERBS = {"GET": "", "POST": "post", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}
_TYPES = {str: "string", int: "integer", bool: "boolean"}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document of some routes."""
    named: dict[str, Schema] = {}
    problem = schema_of(ProblemBody, named)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operations = paths.setdefault(route.path, {})
        operations[route.method.lower()] = _operation(route, named, problem)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pillion coordinator",
            "version": SOFTWARE,
            "description": "What a coordinator knows, and what operators may ask of it.",
        },
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route, named: dict[str, Schema], problem: Schema) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [_parameter(parameter) for parameter in route.parameters]
    if isinstance(route.answers, str):
        content: dict[str, Any] = {route.answers: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schema_of(route.answers, named)}}
    statuses: dict[int, list[str]] = {}
    for code in (*route.problems, *(("missing_owner",) if route.method != "GET" else ()), *_ALWAYS):
        statuses.setdefault(CODES[code][0], []).append(code)
    responses: dict[str, Any] = {"200": {"description": route.summary, "content": content}}
    for status, codes in sorted(statuses.items()):
        responses[str(status)] = {
            "description": ", ".join(codes),
            "content": {MEDIA_TYPE: {"schema": problem}},
        }
    if route.path in ("/startupz", "/readyz"):
        responses["503"] = {"description": "It is not.", "content": content}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{_VERBS[route.method]}{route.path}").strip("_"),
        "summary": route.summary,
        "responses": responses,
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schema_of(route.body, named)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.open_to_all:
        operation["security"] = []
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[parameter.kind], "default": parameter.default}
    if parameter.kind is int:
        schema |= {"minimum": parameter.low, "maximum": parameter.high}
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.help,
        "schema": schema,
    }

"""The document says what the server does: compared with its table, and tried by schemathesis."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.core.result import Ok

from protocol.messages import Result
from sidecar.http import api
from sidecar.http.batch import OTHER_MEMBERS
from sidecar.http.openapi import SCHEMAS
from sidecar.http.options import READERS
from sidecar.http.server import HttpServer
from sidecar.http.status import document as status_document
from sidecar.invoke import routes as pull
from tests.sidecar.http import unix
from tests.support.builders import a_status
from tests.support.processes import System

EXAMPLES = 20
BODILESS = {"GET /livez", "GET /readyz", "GET /v1", "GET /v1/sidecar", "GET /openapi.json"}
"""Routes on which nothing can be sent that is wrong."""
Operation = schemathesis.APIOperation[Any, Any, Any, Any]


@schemathesis.serializer("application/x-ndjson")
def write_lines(_: Any, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    lines = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(line).encode() for line in lines)


@schemathesis.deserializer("application/x-ndjson")
def read_lines(_: Any, response: Any) -> Any:
    return [json.loads(line) for line in response.content.splitlines()]


def table() -> list[str]:
    """Return all routes, as the document calls them."""
    hosts: Any = None  # Nothing is called.
    routes = HttpServer([*api.routes(), *pull.routes(hosts)]).router.routes
    return [f"{route.method} {route.path}" for route in routes]


def trials() -> list[tuple[str, GenerationMode]]:
    """Return what is tried: right requests on each route, and wrong ones where there are any."""
    wrong = [(label, GenerationMode.NEGATIVE) for label in table() if label not in BODILESS]
    return [(label, GenerationMode.POSITIVE) for label in table()] + wrong


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A session with a real sidecar that has its coordinator."""
    with System() as system:
        coordinator = system.coordinator("--log-level", "error")
        sidecar = system.sidecar("email", coordinator, "--log-level", "error")
        with unix.session(sidecar.socket_path) as made:
            sidecar.wait_until(lambda: made.get(f"{unix.BASE_URL}/readyz").ok, "is ready")
            yield made


@pytest.fixture(scope="module")
def operations(session: requests.Session) -> dict[str, Operation]:
    document = session.get(f"{unix.BASE_URL}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {operation.label: operation for operation in found}


def test_document_has_the_routes_of_the_table(operations: dict[str, Operation]) -> None:
    assert sorted(operations) == sorted(table())


@pytest.mark.parametrize(("label", "mode"), trials())
def test_server_does_what_the_document_says(
    session: requests.Session, operations: dict[str, Operation], label: str, mode: GenerationMode
) -> None:
    # Whether two options go together (delay and at, say), no schema tells.
    excluded = [positive_data_acceptance]
    if label == "POST /v1/tasks":
        excluded.append(negative_data_rejection)  # A bad line is refused in its place.

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operations[label].as_strategy(mode))
    def server_conforms(case: Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE and (label == "GET /v1/next" or "wait" in case.query):
            case.query["wait"] = 0  # It may be half a minute, and is by default.
        if case.headers and "Prefer" in case.headers:
            del case.headers["Prefer"]
        case.call_and_validate(base_url=unix.BASE_URL, session=session, excluded_checks=excluded)

    server_conforms()


def test_schema_of_a_line_has_every_option() -> None:
    assert set(SCHEMAS["NewTask"]["properties"]) == {*READERS, *OTHER_MEMBERS}


def test_query_of_a_submission_has_every_option() -> None:
    in_query = {p["name"] for p in api.SUBMIT["parameters"] if p["in"] == "query"}
    assert in_query == set(READERS)


def test_schema_of_a_status_has_all_that_is_told() -> None:
    full: dict[str, Any] = {
        "collection": "c",
        "expires_ms": 1,
        "finished_ms": 1,
        "sidecar": "s",
        "progress": 1,
        "note": "n",
        "checkpoint": b"c",
        "cancelling": True,
        "error": "e",
        "result": Result("image/png", b"\xff"),
    }
    assert set(json.loads(status_document(a_status(**full)))) == set(
        SCHEMAS["Status"]["properties"]
    )

"""A sidecar says whether it lives, whether it is ready, and what there is to ask."""

from typing import Any

import pytest

from protocol.messages import Inspected
from sidecar.http.health import Facts
from tests.sidecar.http.wire import Wire

FACTS: Facts = {"link": "open", "coordinator": "tcp://c:1", "link_trouble": "", "draining": 0}


def test_process_that_answers_lives(wire: Wire) -> None:
    wire.request("GET", "/livez")
    assert wire.response().json == {"live": True}
    assert not wire.inspected


@pytest.mark.parametrize(
    ("changes", "status", "answer"),
    [
        ({}, 200, {"ready": True}),
        (
            {"link": "up", "link_trouble": "nothing answers"},
            503,
            {"ready": False, "trouble": "nothing answers"},
        ),
        ({"draining": 1}, 503, {"ready": False, "trouble": "this sidecar stops"}),
    ],
)
def test_sidecar_is_ready_while_it_has_its_coordinator(
    wire: Wire, changes: Facts, status: int, answer: dict[str, Any]
) -> None:
    wire.request("GET", "/readyz")
    assert wire.inspected
    wire.deliver(Inspected({**FACTS, **changes}))

    response = wire.response()
    assert (response.status, response.json) == (status, {**answer, "coordinator": "tcp://c:1"})


def test_sidecar_tells_all_that_it_knows_of_itself(wire: Wire) -> None:
    wire.request("GET", "/v1/sidecar")
    wire.deliver(Inspected(FACTS))
    assert wire.response().json == FACTS


def test_index_lists_every_route(wire: Wire) -> None:
    wire.request("GET", "/v1")
    listed = wire.response().json["routes"]
    assert list(listed) == [f"{r.method} {r.path}" for r in wire.server.router.routes]
    assert all(listed.values())

"""Each path goes to one route, and one that goes nowhere is told what is near."""

import pytest

from sidecar.http.exchange import Exchange, Route
from sidecar.http.problems import Problem
from sidecar.http.router import QUERY_FIELDS_MAX, Router, read_target


def unused(exchange: Exchange) -> None:
    raise AssertionError("requests are only routed here")


def a_router() -> Router:
    rows = [
        ("GET", "/v1/tasks/{id}"),
        ("DELETE", "/v1/tasks/{id}"),
        ("GET", "/v1/tasks/{id}/events"),
        ("POST", "/v1/tasks"),
        ("POST", "/v1/tasks/{handler}"),
        ("GET", "/v1/tasks/next"),
    ]
    return Router([Route(method, path, unused, {}) for method, path in rows])


def refused(method: str, path: str) -> Problem:
    with pytest.raises(Problem) as caught:
        a_router().find(method, path)
    return caught.value


def test_open_parts_of_a_path_are_decoded() -> None:
    route, params = a_router().find("GET", "/v1/tasks/a%2Fb%20c/events")
    assert route.path == "/v1/tasks/{id}/events"
    assert params == {"id": "a/b c"}


def test_of_two_routes_that_fit_the_first_has_the_path() -> None:
    assert a_router().find("GET", "/v1/tasks/next")[1] == {"id": "next"}


def test_head_goes_where_get_goes() -> None:
    assert a_router().find("HEAD", "/v1/tasks/x")[0].method == "GET"


def test_unknown_path_is_told_the_nearest_one() -> None:
    problem = refused("POST", "/v1/task")
    assert (problem.status, problem.hint) == (404, "did you mean /v1/tasks?")


def test_handler_spelt_as_a_path_is_told_its_name() -> None:
    problem = refused("POST", "/v1/tasks/email/send")
    assert (problem.status, problem.hint) == (404, "did you mean /v1/tasks/email.send?")


def test_path_far_from_all_is_told_where_they_are_listed() -> None:
    problem = refused("GET", "/" + "x" * 10_000)
    assert problem.hint == "GET /v1 lists what there is"
    assert len(problem.detail) < 200


def test_unknown_method_is_told_those_that_the_path_has() -> None:
    problem = refused("PUT", "/v1/tasks/x")
    assert (problem.status, problem.allow) == (405, "DELETE, GET, POST, HEAD")


@pytest.mark.parametrize("path", ["/v1/tasks/", "/v1/tasks//events", "", "*", "/v1/tasks/x/"])
def test_empty_part_is_no_name(path: str) -> None:
    assert refused("GET", path).status in (404, 405)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/b", "/a/b", {}),
        (b"/a?x=1&y=a%20b+c&z", "/a", {"x": "1", "y": "a b c", "z": ""}),
        (b"http://localhost/a?x=1", "/a", {"x": "1"}),
        (b"http://localhost", "/", {}),
        (b"*", "*", {}),
        (b"host:1", "host:1", {}),
        (b"/a?", "/a", {}),
    ],
)
def test_target_is_a_path_and_a_query(target: bytes, path: str, query: dict[str, str]) -> None:
    assert read_target(target) == (path, query)


@pytest.mark.parametrize("query", [b"a=%ff", b"a=1&" * QUERY_FIELDS_MAX + b"b"])
def test_query_that_cannot_be_read_is_refused(query: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_target(b"/a?" + query)
    assert caught.value.code == "invalid_query"

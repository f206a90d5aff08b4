"""Bytes become requests however they are cut, and what is wrong or too much is refused."""

import pytest

from protocol.limits import PAYLOAD_BYTES_MAX
from sidecar.http.exchange import Exchange, Route
from sidecar.http.problems import Problem
from sidecar.http.reader import HEAD_BYTES_MAX, Arrived, RequestReader, Room
from sidecar.http.router import Router

ROOM = 4 * PAYLOAD_BYTES_MAX
POST = b"POST /tasks/a.b?x=1&y=%20z HTTP/1.1\r\nHost: h\r\nX-Name: v\r\nx-name: w\r\n"


def unused(exchange: Exchange) -> None:
    raise AssertionError("requests are only read here")


def a_reader(room: Room | None = None) -> RequestReader:
    router = Router(
        [Route("POST", "/tasks/{handler}", unused, {}), Route("POST", "/small", unused, {}, 8)]
    )
    return RequestReader(router.find, room or Room(ROOM))


def the_problem(reader: RequestReader) -> Problem:
    assert reader.problem is not None
    return reader.problem


def fed(data: bytes) -> tuple[RequestReader, list[Arrived]]:
    reader = a_reader()
    return reader, reader.feed(data)


STREAM = (
    POST
    + b"Content-Length: 5\r\n\r\nhello"
    + POST
    + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n"
    + b"GET /nowhere HTTP/1.1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, len(STREAM)])
def test_requests_are_the_same_however_they_are_cut(size: int) -> None:
    reader = a_reader()
    made = [a for i in range(0, len(STREAM), size) for a in reader.feed(STREAM[i : i + size])]

    first, second, third = made
    for arrived in (first, second):
        request = arrived.request
        assert (request.method, request.path) == ("POST", "/tasks/a.b")
        assert request.query == {"x": "1", "y": " z"}
        assert request.params == {"handler": "a.b"}
        assert request.headers["x-name"] == "v, w"
        assert request.body == b"hello"
        assert arrived.keep_alive
    assert "trailer" not in second.request.headers
    assert isinstance(third.route, Problem)
    assert third.route.status == 404
    assert not reader.midway


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"X: a\r\n b\r\n",
        b"X : a\r\n",
        b"X: a\0b\r\n",
        b"X: a\n",
        b": a\r\n",
    ],
)
def test_request_that_two_readers_could_read_differently_is_malformed(head: bytes) -> None:
    reader, made = fed(POST + head + b"\r\n3\r\nabc\r\n0\r\n\r\n")

    assert made == []
    assert the_problem(reader).status == 400
    assert reader.feed(POST + b"\r\n") == []


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\0\1\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 9],
    ids=["TLS", "HTTP/2", "nothing"],
)
def test_other_protocols_are_malformed(data: bytes) -> None:
    assert the_problem(fed(data)[0]).code == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1\r\n\r\n",
        POST + b"X: " + b"a" * HEAD_BYTES_MAX,
        POST + b"a:\r\n" * (HEAD_BYTES_MAX // 4),
        POST + b"Content-Length: 0\r\nX: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX,
    ],
    ids=["target", "half a header", "many headers", "one header", "trailers"],
)
def test_head_is_bounded(data: bytes) -> None:
    assert the_problem(fed(data)[0]).status == 431


def test_header_that_comes_bit_by_bit_is_bounded() -> None:
    reader = a_reader()
    reader.feed(POST + b"X: ")
    for _ in range(HEAD_BYTES_MAX // 1024):
        reader.feed(b"a" * 1024)

    assert the_problem(reader).status == 431


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n",
    ],
    ids=["by its length", "by its chunks"],
)
def test_body_over_the_limit_of_its_route_is_refused_before_it_has_come(body: bytes) -> None:
    reader = a_reader()
    reader.feed(b"POST /small HTTP/1.1\r\n" + body)
    reader.feed(b"more")

    problem = the_problem(reader)
    assert (problem.status, problem.code) == (413, "payload_too_large")
    assert "8 bytes" in problem.detail


def test_framing_of_a_body_is_bounded_too() -> None:
    reader = a_reader()
    reader.feed(b"POST /small HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    for _ in range(600):
        reader.feed(b"a" * 1024)

    assert the_problem(reader).status == 413


def test_bodies_share_their_room_and_give_it_back() -> None:
    room = Room(10)
    reader, other = a_reader(room), a_reader(room)
    [arrived] = reader.feed(POST + b"Content-Length: 8\r\n\r\n12345678")
    other.feed(POST + b"Content-Length: 8\r\n\r\n1234")

    assert the_problem(other).status == 503
    other.close()
    reader.done_with(arrived)
    assert room.left == 10
    reader.feed(POST + b"Content-Length: 8\r\n\r\n1234")
    assert room.left == 6
    reader.close()
    assert room.left == 10


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
    ids=["close", "1.0", "upgrade", "connect"],
)
def test_nothing_is_read_behind_the_last_request(last: bytes) -> None:
    reader, made = fed(last + b"GET / HTTP/1.1\r\n\r\n\0\0\0")

    [arrived] = made
    assert not arrived.keep_alive
    assert reader.ended and reader.problem is None
    assert reader.feed(b"\0\0\0") == []
    assert reader.problem is None


def test_client_that_waits_to_send_its_body_is_seen() -> None:
    reader, _ = fed(POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
    assert reader.wants_continue
    assert reader.feed(b"hello")[0].request.body == b"hello"
    assert not reader.wants_continue


def test_other_expectations_cannot_be_met() -> None:
    reader, _ = fed(POST + b"Content-Length: 5\r\nExpect: the-best\r\n\r\n")
    assert the_problem(reader).status == 417


def test_body_in_an_encoding_that_the_handler_would_not_be_told_is_refused() -> None:
    _, made = fed(POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx" + POST + b"\r\n")

    bad, good = made
    assert isinstance(bad.route, Problem)
    assert bad.route.status == 415
    assert isinstance(good.route, Route)


def test_query_that_cannot_be_read_is_refused_and_the_next_request_is_served() -> None:
    reader, made = fed(b"POST /small?a=%ff HTTP/1.1\r\n\r\nPOST /small HTTP/1.1\r\n\r\n")

    bad, good = made
    assert isinstance(bad.route, Problem)
    assert bad.route.code == "invalid_query"
    assert isinstance(good.route, Route)
    assert reader.problem is None

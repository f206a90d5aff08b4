"""Answers come in the order of the requests, and no client can hold more than its share."""

import socket

import pytest

from protocol.messages import Attach, Attached, Goodbye, Refused, Submit
from sidecar.gateway.connection import UNREAD_BYTES_MAX
from sidecar.http.connection import NEVER, PIPELINED_MAX
from sidecar.http.exchange import Exchange, Route
from tests.sidecar.http.wire import Wire

LATE = 1e15
GET = b"GET /held HTTP/1.1\r\n\r\n"


class Holder:
    """A route that answers when the test says so."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.gone: list[int] = []
        self.routes = [Route("GET", "/held", self._take, {"summary": "held"})]

    def _take(self, exchange: Exchange) -> None:
        place = len(self.exchanges)
        exchange.on_gone(lambda: self.gone.append(place))
        self.exchanges.append(exchange)


def test_connection_is_an_app_of_the_core(wire: Wire) -> None:
    [attach] = wire.all(Attach)
    wire.deliver(Attached(1, "host-1", 1))

    assert (attach.service, attach.declarations) == ("", [])
    assert wire.responses() == []


def test_answers_keep_the_order_of_pipelined_requests() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET * 3)
        first, second, third = holder.exchanges
        wire.call(lambda: third.respond(200, b"3"))
        wire.call(lambda: second.start(200, "text/plain"))
        wire.call(lambda: second.write(b"2"))
        assert wire.responses() == []

        wire.call(lambda: first.respond(200, b"1"))
        wire.call(second.finish)
        bodies = [r.body for r in wire.responses()]

    assert bodies == [b"1", b"2", b"3"]


def test_so_many_requests_are_worked_on_and_meanwhile_nothing_is_read() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET * (PIPELINED_MAX + 2))
        assert len(holder.exchanges) == PIPELINED_MAX
        assert not wire.transport.reading

        for place in range(PIPELINED_MAX + 2):
            wire.call(lambda at=place: holder.exchanges[at].respond(200))  # type: ignore[misc]

        assert len(wire.responses()) == PIPELINED_MAX + 2
        assert wire.transport.reading


def test_all_that_comes_of_one_turn_is_written_in_one_piece(wire: Wire) -> None:
    wire.send(b"GET /livez HTTP/1.1\r\n\r\n" * 5)
    assert len(wire.responses()) == 5
    assert wire.transport.writes == 1


def test_whoever_works_on_an_answer_is_told_that_the_client_has_gone() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET * 3)
        wire.call(lambda: holder.exchanges[0].respond(200))
        wire.lose()
        late = holder.exchanges[1]
        wire.call(lambda: late.respond(200))  # Does nothing.
        wire.call(late.finish)

    assert holder.gone == [1, 2]
    assert wire.desk.ended


def test_client_that_only_stopped_sending_gets_its_answer_and_is_closed() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET)
        wire.transport.client.shutdown(socket.SHUT_WR)
        assert wire.connection.eof_received() is True
        wire.call(lambda: holder.exchanges[0].respond(200, b"x"))

        assert wire.response().body == b"x"
        assert wire.transport.closed


def test_client_that_has_gone_is_not_waited_for() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET)
        wire.transport.client.close()
        assert wire.connection.eof_received() is False


def test_client_without_open_requests_that_stops_sending_is_closed(wire: Wire) -> None:
    assert wire.connection.eof_received() is False


@pytest.mark.parametrize(
    ("request_", "said", "closed"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", None, False),
        (b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", "close", True),
        (b"GET /livez HTTP/1.0\r\n\r\n", "close", True),
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive", False),
        (b"GET /livez HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "close", True),
    ],
)
def test_connection_stays_as_the_client_wants_it(
    wire: Wire, request_: bytes, said: str | None, closed: bool
) -> None:
    wire.send(request_)

    response = wire.response()
    assert response.status == 200
    assert response.headers.get("connection") == said
    assert wire.transport.closed is closed


def test_head_is_answered_as_get_without_the_body(wire: Wire) -> None:
    wire.request("GET", "/livez")
    size = wire.response().headers["content-length"]

    wire.request("HEAD", "/livez")

    assert wire.transport.written.endswith(b"\r\n\r\n")
    assert f"Content-Length: {size}".encode() in wire.transport.written


def test_old_client_gets_a_streamed_answer_up_to_the_end_of_the_connection() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(b"GET /held HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        exchange = holder.exchanges[0]
        wire.call(lambda: exchange.start(200))
        wire.call(lambda: exchange.write(b"x"))
        wire.call(exchange.finish)

        assert wire.transport.written.endswith(
            b"Connection: close\r\nContent-Type: application/json\r\n\r\nx"
        )
        assert wire.transport.closed


def test_client_that_waits_to_send_its_body_is_told_to(wire: Wire) -> None:
    head = b"POST /v1/tasks/a.b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    wire.send(head)
    assert wire.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"

    wire.send(b"{}")
    assert len(wire.all(Submit)) == 1


def test_client_with_too_large_a_body_is_told_so_and_not_to_send_it(wire: Wire) -> None:
    wire.send(
        b"POST /v1/tasks/a.b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
    )

    response = wire.response()
    assert (response.status, response.json["code"]) == (413, "payload_too_large")
    assert wire.transport.sent_eof  # It can read this, and may go on to send for a while.
    assert wire.transport.reading


def test_error_in_the_stream_is_answered_behind_the_requests_before_it() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET + b"nonsense\r\n\r\n")
        assert wire.responses() == []
        wire.call(lambda: holder.exchanges[0].respond(200))

        good, bad = wire.responses()

    assert (good.status, bad.status) == (200, 400)
    assert bad.headers["connection"] == "close"


def test_header_of_an_answer_cannot_be_ended_by_what_is_put_in_it() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET)
        given = {"Task-Note": "a\r\nSet-Cookie: b"}
        wire.call(lambda: holder.exchanges[0].respond(200, b"", "text/x\r\nEvil: 1", given))
        headers = wire.response().headers

    assert headers["task-note"] == "a??Set-Cookie: b"
    assert headers["content-type"] == "text/x??Evil: 1"


def test_client_that_does_not_read_is_cut_off(wire: Wire) -> None:
    wire.transport.unread_bytes = UNREAD_BYTES_MAX + 1
    wire.request("GET", "/livez")

    assert wire.transport.aborted
    assert wire.desk.alarms == ["connection_does_not_read"]


def test_nothing_is_read_from_a_client_that_does_not_read(wire: Wire) -> None:
    wire.connection.pause_writing()
    assert not wire.transport.reading
    wire.connection.resume_writing()
    assert wire.transport.reading


def test_sidecar_that_stops_answers_what_is_open_and_closes() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET * 2)
        wire.call(lambda: holder.exchanges[0].start(200, "text/plain"))
        wire.deliver(Goodbye("stopping"))

        streamed, waiting = wire.responses()
        assert streamed.status == 200
        assert (waiting.status, waiting.json["code"]) == (503, "stopping")
        assert waiting.headers["retry-after"] == "1"
        assert wire.transport.closed


def test_connection_that_the_core_refuses_is_told_why_and_closed(wire: Wire) -> None:
    wire.request("POST", "/v1/tasks/a.b")
    wire.deliver(Refused("malformed", "because", 0))

    assert wire.response().json["detail"] == "because"
    assert wire.transport.closed


def test_room_of_a_body_is_given_back_when_its_request_is_served(wire: Wire) -> None:
    before = wire.server.room.left
    wire.request("POST", "/v1/tasks/a.b", b"{}")
    wire.request("POST", "/v1/tasks", b'{"handler": "a.b"}')
    assert wire.server.room.left == before


def test_slow_request_behind_an_open_one_is_told_so_in_its_turn() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET + b"GET /held HTT")
        wire.call(lambda: wire.connection.look(LATE))
        assert wire.responses() == []
        assert wire.connection.due == NEVER  # Or the loop would spin.

        wire.call(lambda: holder.exchanges[0].respond(200))
        assert [r.status for r in wire.responses()] == [200, 408]


def test_client_that_does_not_read_its_last_answer_is_cut_off_in_the_end(wire: Wire) -> None:
    wire.transport.unread_bytes = 1
    wire.send(b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\nGET")
    assert wire.transport.closed and not wire.transport.aborted
    assert wire.connection.due < NEVER

    wire.call(lambda: wire.connection.look(LATE))
    assert wire.transport.aborted


def test_idle_client_that_has_not_read_its_answer_is_cut_off(wire: Wire) -> None:
    wire.transport.unread_bytes = 1
    wire.request("GET", "/livez")
    wire.call(lambda: wire.connection.look(LATE))
    assert wire.transport.aborted


def test_pipelining_client_is_not_taken_for_a_slow_one() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET[:4])
        first = wire.connection.due
        wire.call(lambda: None)
        wire.send(GET[4:] + GET[:4])
        assert first < wire.connection.due < NEVER


def test_request_of_which_the_rest_is_not_read_is_not_slow() -> None:
    holder = Holder()
    with Wire(holder.routes) as wire:
        wire.send(GET * PIPELINED_MAX + GET[:4])
        assert not wire.transport.reading
        assert wire.connection.due == NEVER

        wire.call(lambda: holder.exchanges[0].respond(200))
        assert wire.connection.due < NEVER

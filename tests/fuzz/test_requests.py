"""CI's share of the mutated requests, the real socket under fire, and proof that harm is seen."""

import contextlib
import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.http import reader, tasks
from sidecar.http.connection import HttpConnection
from sidecar.http.exchange import Exchange
from tests.fuzz import requests
from tests.fuzz.requests import CHANGES, STREAMS_PER_BATCH, Battery, Report
from tests.fuzz.test_real_processes import descriptors, rss_bytes
from tests.support.processes import Sidecar, System

STREAMS = int(os.environ.get("PILLION_FUZZ_REQUESTS", "20000"))
SEED = 1
BATCHES_UNTIL_SEEN = 4
ON_THE_SOCKET = 2_000
GROWTH_BYTES_MAX = 96 * 2**20


@pytest.mark.share
@pytest.mark.timeout(120)
def test_no_request_harms_who_serves_it() -> None:
    report = requests.run(SEED, range(-(-STREAMS // STREAMS_PER_BATCH)))

    assert report.findings == []
    assert report.streams >= STREAMS
    assert set(report.answers) >= {200, 202, 204, 400, 404, 405, 413, 417, 422, 429, 431, 503}
    assert report.submitted > report.streams // 10  # Many are right in spite of it all.


def submit(sidecar: Sidecar) -> None:
    """Submit a task, as a client that behaves."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sidecar.socket_path))
        client.settimeout(10.0)
        client.sendall(b"POST /v1/tasks/email.send HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert client.recv(65_536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.timeout(90)
def test_sidecar_serves_on_whatever_clients_of_http_send(system: System) -> None:
    coordinator = system.coordinator()
    sidecar = system.sidecar("email", coordinator)
    battery = Battery(SEED, 0, Report())
    submit(sidecar)
    before, open_before = rss_bytes(sidecar.pid), descriptors(sidecar.pid)

    with contextlib.ExitStack() as others:
        rng = random.Random(SEED)
        for _ in range(ON_THE_SOCKET):
            client = others.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(sidecar.socket_path))
            client.settimeout(5.0)
            with contextlib.suppress(OSError):
                client.sendall(CHANGES.make(battery._rng))
            if rng.random() < 0.8:
                client.close()
            else:
                client.setblocking(False)  # It stays, and reads nothing.

        submit(sidecar)

    assert rss_bytes(sidecar.pid) - before < GROWTH_BYTES_MAX
    sidecar.wait_until(lambda: descriptors(sidecar.pid) <= open_before, "frees the descriptors")


# Bugs put in on purpose: each must be seen


def forget_to_answer_the_second(patch: pytest.MonkeyPatch) -> None:
    answer = Exchange.respond
    count = iter(range(10**9))

    def sometimes(self: Exchange, *args: Any, **kwargs: Any) -> None:
        if next(count) % 50 != 1:
            answer(self, *args, **kwargs)

    patch.setattr(Exchange, "respond", sometimes)


def lose_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reader.RequestReader, "close", lambda self: None)


def let_errors_of_json_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks, "is_json", lambda body: __import__("json").loads(body) is not None)


def submit_what_was_not_checked(patch: pytest.MonkeyPatch) -> None:
    from protocol.messages import Submission  # noqa: PLC0415

    patch.setattr(tasks, "check", lambda _, raw: Submission(*raw))


def answer_in_the_order_of_the_work(patch: pytest.MonkeyPatch) -> None:
    def emit(self: HttpConnection, exchange: Exchange, data: bytes, *, done: bool) -> None:
        exchange.done = done
        self._out.append(data)
        if done:
            self._queue.remove(exchange)

    patch.setattr(HttpConnection, "emit", emit)


def put_anything_into_headers(patch: pytest.MonkeyPatch) -> None:
    from sidecar.http import exchange  # noqa: PLC0415

    patch.setattr(exchange, "_line", lambda value: value + "\r\nContent-Length: 0")


SABOTAGES = [
    forget_to_answer_the_second,
    lose_room,
    let_errors_of_json_out,
    submit_what_was_not_checked,
    answer_in_the_order_of_the_work,
    put_anything_into_headers,
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.__name__.replace("_", "-"))
def test_harm_is_seen(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    sabotage(monkeypatch)
    assert requests.run(SEED, range(BATCHES_UNTIL_SEEN)).findings

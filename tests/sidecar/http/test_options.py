"""Options mean the same in a query, in a line of a batch and in a header."""

from typing import Any

import pytest

from protocol.options import check_options
from sidecar.http.options import READERS, read_durability, read_headers, read_options
from sidecar.http.problems import Problem

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("delay", "10m", {"delay_ms": 600_000}),
        ("at", "1900000000000", {"at_ms": 1_900_000_000_000}),
        ("at", 1_900_000_000_000, {"at_ms": 1_900_000_000_000}),
        ("priority", "critical", {"priority": 0}),
        ("collection", "tenant-1", {"collection": "tenant-1"}),
        ("timeout", "30s", {"timeout_ms": 30_000}),
        ("attempts", "5", {"attempts_max": 5}),
        ("attempts", 5, {"attempts_max": 5}),
        ("backoff", "exp(1s,5m)", {"backoff_ms_min": 1_000, "backoff_ms_max": 300_000}),
        ("backoff", "exp(1s, 5m)", {"backoff_ms_min": 1_000, "backoff_ms_max": 300_000}),
        ("backoff", "5s", {"backoff_ms_min": 5_000, "backoff_ms_max": 5_000}),
        ("expires", "1d", {"expires_ms": 86_400_000}),
        ("key", "order-17", {"key": "order-17"}),
    ],
)
def test_option_becomes_the_protocols(name: str, value: Any, options: dict[str, Any]) -> None:
    made = read_options({name: value})
    assert made == options
    assert check_options(made) is None


def test_every_option_has_an_example_here() -> None:
    mark = test_option_becomes_the_protocols.pytestmark[0]
    assert {row[0] for row in mark.args[1]} == set(READERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "urgent"),
        ("priority", 1),
        ("attempts", "many"),
        ("attempts", True),
        ("attempts", "²"),
        ("backoff", "exp(5m,1s)"),
        ("backoff", "exp(1s)"),
        ("backoff", "lin(1s,2s)"),
        ("backoff", None),
        ("delay", ["1s"]),
    ],
)
def test_value_that_cannot_be_read_is_refused_and_told_what_is_taken(name: str, value: Any) -> None:
    with pytest.raises(Problem) as caught:
        read_options({name: value})
    assert caught.value.code == "invalid_option"
    assert caught.value.hint.startswith(f"{name} takes ")


def test_unknown_name_is_told_the_nearest_one() -> None:
    with pytest.raises(Problem) as caught:
        read_options({"dealy": "1s"})
    assert (caught.value.code, caught.value.hint) == ("unknown_option", "did you mean delay?")


def test_headers_carry_key_meta_and_trace() -> None:
    headers = {
        "idempotency-key": '"order \\"17\\""',
        "task-meta-tenant": "acme",
        "traceparent": TRACEPARENT,
        "tracestate": "a=b",
        "baggage": "user=1",
        "user-agent": "x",
    }
    options = read_headers(headers)

    assert options == {
        "key": 'order "17"',
        "meta": {"tenant": "acme"},
        "traceparent": TRACEPARENT,
        "tracestate": "a=b",
        "baggage": "user=1",
    }
    assert check_options(options) is None


def test_key_needs_no_quotes() -> None:
    assert read_headers({"idempotency-key": "order-17"}) == {"key": "order-17"}


@pytest.mark.parametrize("traceparent", ["", "00-x", TRACEPARENT.replace("0af", "0AF")])
def test_broken_trace_context_fails_no_task(traceparent: str) -> None:
    assert read_headers({"traceparent": traceparent, "tracestate": "a=b"}) == {}


@pytest.mark.parametrize(("value", "spool"), [(None, True), ("spooled", True), ("accepted", False)])
def test_app_may_insist_on_the_coordinator(value: str | None, spool: bool) -> None:
    assert read_durability({} if value is None else {"task-durability": value}) is spool


def test_unknown_durability_is_refused() -> None:
    with pytest.raises(Problem, match="Task-Durability"):
        read_durability({"task-durability": "eternal"})

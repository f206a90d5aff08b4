"""What stands in a span, and what never does."""

import pytest

from protocol.messages import OutcomeKind
from sidecar.core.events import Ended
from sidecar.tracing.names import ERROR_TYPE, of_end, of_sidecar, of_task
from tests.support.builders import a_granted_task, task_id


def an_end(kind: OutcomeKind | None, error_type: str = "") -> Ended:
    return Ended(task_id(1), 1, kind, error_type, 5, 5)


def test_payload_is_told_by_its_size_and_the_rest_of_the_task_by_numbers() -> None:
    task = a_granted_task(1, payload=b"secret", extras={"key": "secret", "meta": {"a": "secret"}})

    made = of_task("email.send", task)

    assert made["messaging.message.body.size"] == 6
    assert "secret" not in str(made)


@pytest.mark.parametrize(
    ("kind", "outcome", "failed"),
    [
        (OutcomeKind.SUCCESS, "success", False),
        (OutcomeKind.DEFER, "defer", False),
        (OutcomeKind.RETURNED, "returned", False),
        (OutcomeKind.RETRY, "retry", True),
        (OutcomeKind.FATAL, "fatal", True),
        (OutcomeKind.LOST, "lost", True),
        (None, "lease_lost", True),
    ],
)
def test_outcome_has_a_word_and_a_failure_its_type(
    kind: OutcomeKind | None, outcome: str, failed: bool
) -> None:
    made = of_end(an_end(kind, "Boom"), 7)

    assert (made["pillion.outcome"], made["pillion.wait_ms"]) == (outcome, 7)
    assert made.get(ERROR_TYPE) == ("Boom" if failed else None)


def test_failure_without_a_type_has_the_conventions_word_for_that() -> None:
    assert of_end(an_end(OutcomeKind.RETRY), 0)[ERROR_TYPE] == "_OTHER"


def test_coordinator_is_the_server_also_by_an_ipv6_address() -> None:
    made = of_sidecar("email", "host-1", "tcp://[::1]:7711")

    assert (made["server.address"], made["server.port"]) == ("::1", 7711)

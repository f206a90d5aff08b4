"""Who may attach, what may be said on a connection, and how one that may not is turned away."""

from typing import Any

import pytest

from protocol import messages as m
from protocol.errors import Code, LimitExceeded
from protocol.limits import HANDLERS_PER_SESSION_MAX
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, HANDLER, SERVICE, Driver, running
from tests.support.builders import a_granted_task, an_attach, an_outcome


def declare(*handlers: str, slots: int = 1, **policy: int) -> dict[str, Any]:
    return {
        "service": "email",
        "declarations": [m.Declaration(handler, policy) for handler in handlers],
        "slots": [m.Limit(handler, slots) for handler in handlers],
    }


def test_app_is_answered_attached() -> None:
    driver = Driver()

    driver.attach(APP)

    assert driver.told(m.Attached, APP) == [m.Attached(1, "host-1", 4_194_304)]
    assert driver.said(m.Handlers) == []


@pytest.mark.parametrize(
    ("attach", "code"),
    [
        ({"version_min": 2, "version_max": 9}, Code.UNSUPPORTED_VERSION),
        ({"service": "sms"}, Code.NOT_OWNER),
        (declare("sms.send"), Code.NOT_OWNER),
        (declare("email."), Code.NOT_OWNER),
        (declare("emails.send"), Code.NOT_OWNER),
        (declare(HANDLER) | {"service": ""}, Code.NOT_OWNER),
        (declare(HANDLER, attempts_max=0), Code.INVALID_OPTION),
        (declare(HANDLER, colour=1), Code.INVALID_OPTION),
        (declare(HANDLER, slots=0), Code.INVALID_OPTION),
        (declare(HANDLER, slots=100_001), Code.INVALID_OPTION),
        (declare(HANDLER, HANDLER), Code.MALFORMED),
        (declare(HANDLER) | {"slots": []}, Code.MALFORMED),
        ({"slots": [m.Limit(HANDLER, 1)]}, Code.MALFORMED),
        (
            declare(*[f"email.{n}" for n in range(HANDLERS_PER_SESSION_MAX + 1)]),
            Code.TOO_MANY_HANDLERS,
        ),
    ],
)
def test_attach_that_cannot_be_taken_is_refused_and_closed(
    attach: dict[str, Any], code: str
) -> None:
    driver = Driver()
    driver.open()

    driver.attach(APP, **attach)

    [refused] = driver.told(m.Refused, APP)
    assert refused.code == code
    assert refused.detail
    assert driver.closed == [APP]
    assert driver.said(m.Handlers) == []
    assert [note.name for note in driver.notes] == ["connection_refused"]


@pytest.mark.parametrize(
    "message",
    [
        m.Heartbeat(0, [], []),
        m.Tasks([]),
        an_attach(),
        m.Demand([m.Limit("email.other", 1)]),
    ],
    ids=["a message of the other hop", "an answer", "attach again", "undeclared demand"],
)
def test_what_breaks_the_protocol_ends_the_connection_and_harms_no_other(
    message: m.Message,
) -> None:
    driver = running(1)
    driver.attach(APP)
    driver.forget()

    driver.local(APP, message)

    assert [refused.code for refused in driver.told(m.Refused, APP)] == [Code.MALFORMED]
    assert driver.closed == [APP]
    driver.tell(an_outcome(1))
    assert len(driver.outcomes()) == 1


def test_bytes_that_are_no_message_end_the_connection_with_their_code() -> None:
    driver = running(1)

    driver.step(e.LocalRefused(SERVICE, LimitExceeded("a frame of 9999999 bytes")))

    [refused] = driver.told(m.Refused, SERVICE)
    assert refused == m.Refused(Code.LIMIT_EXCEEDED, "a frame of 9999999 bytes", 0)
    assert driver.closed == [SERVICE]
    assert [o.kind for o in driver.outcomes()] == [m.OutcomeKind.LOST]


def test_first_message_must_be_attach() -> None:
    driver = Driver()
    driver.step(e.LocalOpened(APP))

    driver.local(APP, m.Inspect())

    assert [refused.code for refused in driver.told(m.Refused)] == [Code.MALFORMED]


def test_connection_that_does_not_attach_in_time_is_closed() -> None:
    driver = Driver()
    driver.step(e.LocalOpened(APP))
    driver.advance(4_999)
    driver.step(e.LocalOpened(3))
    assert driver.closed == []

    driver.advance(1)

    assert driver.closed == [APP]
    assert [refused.code for refused in driver.told(m.Refused)] == [Code.MALFORMED]


def test_what_a_refused_connection_sent_before_it_knew_is_dropped() -> None:
    driver = Driver()
    driver.open()
    driver.attach(APP, service="sms")
    driver.forget()

    driver.local(APP, m.Submit([m.Batch(1, b"tasks")]))
    driver.step(e.LocalRefused(APP, LimitExceeded("more")))
    driver.close(APP)

    assert driver.to_local == []
    assert driver.said(m.Submit) == []


def test_goodbye_closes_the_connection_and_settles_its_tasks() -> None:
    driver = running(1)

    driver.local(SERVICE, m.Goodbye("done"))

    assert driver.closed == [SERVICE]
    assert [o.kind for o in driver.outcomes()] == [m.OutcomeKind.LOST]
    assert driver.said(m.Handlers) == [m.Handlers([])]


def test_handlers_are_the_union_over_connections_and_the_latest_policy_holds() -> None:
    driver = Driver()
    driver.open()
    driver.serve(1, policy={"attempts_max": 3})
    driver.serve(2, policy={"attempts_max": 5})
    driver.serve(3, handler="email.read")

    [*_, handlers] = driver.said(m.Handlers)
    assert handlers.declarations == [
        m.Declaration("email.read", {}),
        m.Declaration(HANDLER, {"attempts_max": 5}),
    ]

    driver.close(2)
    [handlers] = driver.said(m.Handlers)
    assert handlers.declarations[1] == m.Declaration(HANDLER, {"attempts_max": 3})


def test_app_that_comes_or_goes_changes_no_handlers() -> None:
    driver = running()

    driver.attach(APP)
    driver.close(APP)

    assert driver.said(m.Handlers) == []


def test_handlers_are_stated_before_their_demand() -> None:
    driver = Driver()
    driver.open()

    driver.serve()

    assert [type(message) for message in driver.to_coordinator] == [m.Handlers, m.Demand]


def test_inspect_tells_about_the_sidecar() -> None:
    driver = running(1)
    driver.attach(APP)

    driver.local(APP, m.Inspect())

    [inspected] = driver.told(m.Inspected, APP)
    assert inspected.facts["link"] == "open"
    assert inspected.facts["tasks_running"] == 1
    assert inspected.facts["leases_valid_ms"] == 9_000
    assert (inspected.facts["connections"], inspected.facts["services"]) == (2, 1)


def test_service_that_is_refused_gets_no_tasks() -> None:
    driver = Driver()
    driver.open()
    driver.attach(SERVICE, **declare("sms.send"))

    driver.grant(a_granted_task(1), handler="sms.send")

    assert driver.handed() == []

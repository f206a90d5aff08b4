"""Batches on their way: renumbered, bounded, sent again, given up."""

from protocol import messages as m
from protocol.errors import Code
from protocol.limits import FRAME_BYTES_MAX, MIB
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, Driver

OTHER = 3
TIMEOUT_MS = 10_000


def apps(**terms: int) -> Driver:
    """Return a driver with an open session and two apps."""
    driver = Driver(**terms)
    driver.open()
    driver.attach(APP)
    driver.attach(OTHER)
    driver.forget()
    return driver


def submit(driver: Driver, request: int, tasks: bytes = b"tasks", app: int = APP) -> None:
    driver.local(app, m.Submit([m.Batch(request, tasks)]))


def verdict(request: int, code: str | None = None) -> m.Verdict:
    return m.Verdict(request, code, "", 0, [])


def verdicts(driver: Driver, app: int = APP) -> list[tuple[int, str | None]]:
    """Return, and forget, the requests answered to an app, with their codes."""
    return [(v.request, v.code) for x in driver.told(m.Accepted, app) for v in x.verdicts]


def sent(driver: Driver) -> list[m.Batch]:
    """Return, and forget, the batches that went to the coordinator."""
    return [batch for message in driver.said(m.Submit) for batch in message.batches]


def test_requests_of_different_apps_are_kept_apart() -> None:
    driver = apps()
    submit(driver, 7, b"one", APP)
    submit(driver, 7, b"two", OTHER)
    first, second = sent(driver)
    assert (first.tasks, second.tasks) == (b"one", b"two")
    assert first.request != second.request

    driver.coordinator(m.Accepted([verdict(second.request, Code.BUSY), verdict(first.request)]))

    assert verdicts(driver, APP) == [(7, None)]
    assert verdicts(driver, OTHER) == [(7, Code.BUSY)]


def test_rejections_reach_the_app_untouched() -> None:
    driver = apps()
    submit(driver, 7)
    [batch] = sent(driver)
    rejections = [m.Rejection(3, Code.INVALID_ID, "no id")]

    driver.coordinator(m.Accepted([m.Verdict(batch.request, None, "", 0, rejections)]))

    assert driver.told(m.Accepted) == [m.Accepted([m.Verdict(7, None, "", 0, rejections)])]


def test_unanswered_batches_are_sent_again_in_every_session_under_their_numbers() -> None:
    driver = apps()
    submit(driver, 1)
    before = sent(driver)

    driver.step(e.LinkDown())
    submit(driver, 2, b"later")
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    after = sent(driver)
    assert after[:1] == before
    assert [batch.tasks for batch in after] == [b"tasks", b"later"]


def test_batch_without_an_answer_is_given_up() -> None:
    driver = apps()
    submit(driver, 1)
    [batch] = sent(driver)

    driver.keep_alive(TIMEOUT_MS - 1)
    submit(driver, 2)
    assert verdicts(driver) == []
    driver.keep_alive(1)

    assert verdicts(driver) == [(1, Code.UNAVAILABLE)]
    driver.coordinator(m.Accepted([verdict(batch.request)]))
    assert verdicts(driver) == []
    driver.keep_alive(TIMEOUT_MS)
    assert verdicts(driver) == [(2, Code.UNAVAILABLE)]


def test_submitting_works_without_a_session_and_is_given_up_too() -> None:
    driver = Driver()
    driver.attach(APP)

    submit(driver, 1)
    driver.advance(TIMEOUT_MS)

    assert verdicts(driver) == [(1, Code.UNAVAILABLE)]


def test_connection_may_not_have_more_waiting_than_its_share() -> None:
    driver = apps(submit_bytes_per_connection_max=100)
    submit(driver, 1, bytes(60))
    submit(driver, 2, bytes(60))
    assert verdicts(driver) == [(2, Code.BUSY)]

    [batch] = sent(driver)
    driver.coordinator(m.Accepted([verdict(batch.request)]))
    submit(driver, 3, bytes(60))

    assert verdicts(driver) == [(1, None)]


def test_all_connections_together_are_bounded() -> None:
    driver = apps(submit_bytes_max=100)
    submit(driver, 1, bytes(60), APP)
    submit(driver, 2, bytes(60), OTHER)

    assert verdicts(driver, OTHER) == [(2, Code.BUSY)]


def test_batch_that_fits_no_message_is_refused() -> None:
    driver = apps()

    submit(driver, 1, bytes(FRAME_BYTES_MAX - 10))

    assert verdicts(driver) == [(1, Code.BATCH_TOO_LARGE)]


def test_unanswered_bytes_in_flight_are_bounded_and_the_rest_follows() -> None:
    driver = apps(submit_bytes_in_flight_max=100)
    for request in (1, 2, 3):
        submit(driver, request, bytes(60))
    first, second = sent(driver)

    driver.coordinator(m.Accepted([verdict(first.request), verdict(second.request)]))

    assert len(sent(driver)) == 1


def test_batches_of_one_turn_share_a_message_as_far_as_they_fit() -> None:
    driver = apps()
    for request in (1, 2, 3):
        batch = m.Batch(request, bytes(MIB))
        driver.core.step(driver.now_ms, e.FromLocal(APP, m.Submit([batch])))
    driver.flush()
    assert [len(message.batches) for message in driver.said(m.Submit)] == [1, 1, 1]

    for request in (4, 5):
        batch = m.Batch(request, b"small")
        driver.core.step(driver.now_ms, e.FromLocal(APP, m.Submit([batch])))
    driver.flush()
    assert [len(message.batches) for message in driver.said(m.Submit)] == [2]


def test_app_that_left_is_forgotten() -> None:
    driver = apps(submit_bytes_in_flight_max=10)
    submit(driver, 1, bytes(20), APP)
    submit(driver, 2, bytes(20), APP)
    submit(driver, 3, bytes(20), OTHER)
    [batch] = sent(driver)

    driver.close(APP)

    assert [len(b.tasks) for b in sent(driver)] == [20]
    driver.coordinator(m.Accepted([verdict(batch.request)]))
    assert driver.told(m.Accepted, APP) == []
    assert driver.facts()["submissions_waiting"] == 1

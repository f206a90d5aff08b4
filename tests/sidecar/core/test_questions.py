"""Questions on their way: renumbered, bounded, asked again, given up."""

from protocol import messages as m
from protocol.errors import Code
from protocol.limits import QUERY_IDS_MAX, WAIT_MS_MAX
from sidecar.core import events as e
from tests.sidecar.core.driver import APP, Driver
from tests.support.builders import a_status, task_id

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


def ask(driver: Driver, request: int, wait_ms: int = 0, app: int = APP) -> None:
    driver.local(app, m.Query([m.Question(request, task_id(request), wait_ms)]))


def asked(driver: Driver) -> list[m.Question]:
    """Return, and forget, the questions that went to the coordinator."""
    return [question for message in driver.said(m.Query) for question in message.questions]


def replies(driver: Driver, app: int = APP) -> list[m.Reply]:
    """Return, and forget, the replies to an app."""
    return [reply for message in driver.told(m.Answer, app) for reply in message.replies]


def test_questions_of_different_apps_are_kept_apart() -> None:
    driver = apps()
    ask(driver, 7, app=APP)
    ask(driver, 7, app=OTHER)
    first, second = asked(driver)
    status = a_status(7)

    driver.coordinator(
        m.Answer(
            [
                m.Reply(second.request, Code.UNKNOWN_TASK, None),
                m.Reply(first.request, None, status),
                m.Reply(99, None, status),
            ]
        )
    )

    assert replies(driver, APP) == [m.Reply(7, None, status)]
    assert replies(driver, OTHER) == [m.Reply(7, Code.UNKNOWN_TASK, None)]


def test_question_asked_again_states_what_is_left_of_its_wait() -> None:
    driver = apps()
    ask(driver, 1, wait_ms=5_000)
    ask(driver, 2)
    before = asked(driver)

    driver.step(e.LinkDown())
    driver.advance(2_000)
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    assert [q.wait_ms for q in before] == [5_000, 0]
    after = asked(driver)
    assert [(q.request, q.wait_ms) for q in after] == [
        (before[0].request, 3_000),
        (before[1].request, 0),
    ]


def test_wait_that_is_over_is_still_asked_as_a_wait() -> None:
    """A wait of 0 would be answered for a task that has not ended: both are, so the least."""
    driver = apps()
    ask(driver, 1, wait_ms=1_000)
    asked(driver)

    driver.step(e.LinkDown())
    driver.advance(4_000)
    driver.step(e.LinkUp())
    driver.welcome(resumed=True)

    assert [q.wait_ms for q in asked(driver)] == [1]


def test_longest_wait_is_bounded() -> None:
    driver = apps()

    ask(driver, 1, wait_ms=10 * WAIT_MS_MAX)

    assert [q.wait_ms for q in asked(driver)] == [WAIT_MS_MAX]


def test_question_is_given_up_some_time_after_its_wait() -> None:
    driver = apps()
    ask(driver, 1, wait_ms=4_000)
    ask(driver, 2)

    driver.keep_alive(TIMEOUT_MS)
    assert replies(driver) == [m.Reply(2, Code.UNAVAILABLE, None)]
    driver.keep_alive(3_999)
    assert replies(driver) == []
    driver.keep_alive(1)

    assert replies(driver) == [m.Reply(1, Code.UNAVAILABLE, None)]


def test_number_of_open_questions_is_bounded() -> None:
    driver = apps(questions_max=1)
    ask(driver, 1)
    ask(driver, 2)
    assert replies(driver) == [m.Reply(2, Code.TOO_MANY_WAITERS, None)]

    [question] = asked(driver)
    driver.coordinator(m.Answer([m.Reply(question.request, None, a_status(1))]))
    ask(driver, 3)

    assert len(asked(driver)) == 1


def test_many_questions_are_asked_in_several_messages() -> None:
    driver = apps()
    questions = [m.Question(n, task_id(n), 0) for n in range(QUERY_IDS_MAX + 1)]

    driver.local(APP, m.Query(questions))

    assert [len(message.questions) for message in driver.said(m.Query)] == [QUERY_IDS_MAX, 1]


def test_app_that_left_is_forgotten() -> None:
    driver = apps()
    ask(driver, 1, wait_ms=60_000)
    [question] = asked(driver)

    driver.close(APP)
    driver.coordinator(m.Answer([m.Reply(question.request, None, a_status(1))]))

    assert driver.told(m.Answer) == []
    assert driver.facts()["questions_waiting"] == 0

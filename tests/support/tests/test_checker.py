"""Each violation is made by hand here, and found; what only looks like one is not."""

from typing import Any

from tests.support.checker import violations
from tests.support.history import Attempt, Cut, History, Seen, TaskHistory

SECOND = 1_000_000_000


def an_attempt(
    token: int = 1, began: float = 1.0, ended: float | None = 2.0, **more: Any
) -> Attempt:
    values: dict[str, Any] = {
        "attempt": 1,
        "attempts_max": 3,
        "crc": 7,
        "sidecar": "one",
        "process": "service-1",
        "how": None if ended is None else "success",
        "result": None if ended is None else [token, 7],
    }
    return Attempt(
        token=token,
        began_ns=int(began * SECOND),
        ended_ns=None if ended is None else int(ended * SECOND),
        **values | more,
    )


def seen_as(state: str = "succeeded", at: float = 9.0, **more: Any) -> Seen:
    values: dict[str, Any] = {"attempts": 1, "attempts_max": 3, "result": [1, 7]}
    return Seen(at_ns=int(at * SECOND), state=state, **values | more)


def a_task(*attempts: Attempt, **changes: Any) -> TaskHistory:
    """A task that was accepted, ran once and succeeded, but for what is given."""
    values: dict[str, Any] = {
        "called_ns": 0,
        "crc": 7,
        "verdicts": ["accepted"],
        "attempts": list(attempts) or [an_attempt()],
        "seen": [seen_as()],
    }
    return TaskHistory("a", **values | changes)


def found(task: TaskHistory, **more: Any) -> list[str]:
    return violations(History({"a": task}, **more))


def failing(token: int, began: float, ended: float, **more: Any) -> Attempt:
    return an_attempt(token, began, ended, how="RuntimeError", result=None, **more)


def test_task_that_ran_once_and_succeeded_is_fine() -> None:
    assert found(a_task()) == []


def test_task_that_failed_then_succeeded_is_fine() -> None:
    second = an_attempt(2, 2.5, 3.0, attempt=2)
    task = a_task(failing(1, 1.0, 2.0), second, seen=[seen_as(attempts=2, result=[2, 7])])

    assert found(task) == []


def test_accepted_task_without_an_end_is_found() -> None:
    (violation,) = found(a_task(seen=[]))

    assert "never seen in a terminal state" in violation


def test_task_of_unknown_verdict_needs_no_end() -> None:
    assert found(TaskHistory("a", called_ns=0, crc=7, verdicts=["unknown"])) == []


def test_two_terminal_states_are_found() -> None:
    (violation,) = found(a_task(seen=[seen_as(), seen_as("dead")]))

    assert "dead, succeeded" in violation


# Twice at once


def test_overlap_is_found() -> None:
    (violation,) = found(
        a_task(failing(1, 1.0, 2.0), an_attempt(2, 1.9, 3.0), seen=[seen_as(result=[2, 7])])
    )

    assert "twice at once: token 2" in violation
    assert "100.0 ms" in violation


def test_overlap_with_any_earlier_attempt_is_found() -> None:
    attempts = [failing(1, 1.0, 9.0), failing(2, 2.0, 3.0), an_attempt(3, 4.0, 5.0)]

    violations_found = found(a_task(*attempts, seen=[seen_as(result=[3, 7])]))

    assert len(violations_found) == 2
    assert all("token 1 was authorised" in v for v in violations_found)


def test_attempt_that_never_ended_overlaps_whatever_follows() -> None:
    attempts = [an_attempt(1, 1.0, None), an_attempt(2, 500.0, 501.0)]
    task = a_task(*attempts, seen=[seen_as(at=600, result=[2, 7])])

    assert ["twice at once" in v for v in found(task)] == [True]


def test_attempt_ends_when_its_process_is_killed() -> None:
    attempts = [an_attempt(1, 1.0, None), an_attempt(2, 1.6, 2.0, process="service-2")]
    task = a_task(*attempts, seen=[seen_as(result=[2, 7])])

    assert found(task, killed_ns={"service-1": int(1.5 * SECOND)}) == []
    assert len(found(task, killed_ns={"service-1": int(1.7 * SECOND)})) == 1


def test_sidecar_that_was_cut_ends_nothing() -> None:
    attempts = [an_attempt(1, 4.0, 9.0), an_attempt(2, 8.0, 9.0, sidecar="two")]
    task = a_task(*attempts, seen=[seen_as(at=20, result=[2, 7])])

    assert len(found(task, cuts=[Cut("one", 5 * SECOND, 6 * SECOND)])) == 1


# Tokens


def test_token_that_shrinks_is_found() -> None:
    attempts = [failing(5, 1.0, 2.0), an_attempt(4, 3.0, 4.0)]

    violations_found = found(a_task(*attempts, seen=[seen_as(result=[4, 7])]))

    assert any("token 4 began after token 5" in v for v in violations_found)


def test_token_that_runs_twice_is_found() -> None:
    attempts = [failing(1, 1.0, 2.0), an_attempt(1, 3.0, 4.0)]

    (violation,) = found(a_task(*attempts))

    assert "token 1 ran 2 times" in violation


# What was submitted


def test_task_that_was_never_submitted_is_found() -> None:
    (violation,) = found(a_task(called_ns=None, crc=None, verdicts=[]))

    assert "had not been submitted" in violation


def test_task_that_ran_before_it_was_submitted_is_found() -> None:
    (violation,) = found(a_task(called_ns=int(1.5 * SECOND)))

    assert "had not been submitted" in violation


def test_task_that_ran_though_it_was_refused_is_found() -> None:
    (violation,) = found(a_task(verdicts=["payload_too_large"]))

    assert "refused: payload_too_large" in violation


def test_other_payload_is_found() -> None:
    (violation,) = found(a_task(an_attempt(crc=8)))

    assert "another payload" in violation


# Ends, attempts, results


def test_attempt_after_the_end_is_found() -> None:
    attempts = [an_attempt(1, 1.0, 2.0), failing(2, 10.0, 11.0)]

    violations_found = found(a_task(*attempts, seen=[seen_as(at=9.0)]))

    assert any("token 2 began after the task was seen succeeded" in v for v in violations_found)


def test_outcome_taken_after_a_later_lease_was_granted_is_found() -> None:
    attempts = [an_attempt(1, 1.0, 2.0), failing(2, 2.5, 3.0)]

    (violation,) = found(a_task(*attempts, seen=[seen_as(result=[1, 7])]))

    assert "token 1 was taken, but token 2 was granted" in violation


def test_attempt_beyond_the_policy_is_found() -> None:
    (violation,) = found(a_task(an_attempt(attempt=4)))

    assert "attempt 4 of 3" in violation


def test_too_many_charged_attempts_are_found() -> None:
    (violation,) = found(a_task(seen=[seen_as(attempts=4)]))

    assert "4 attempts were charged" in violation


def test_result_that_no_attempt_returned_is_found() -> None:
    (violation,) = found(a_task(seen=[seen_as(result=[99, 7])]))

    assert "is of no attempt" in violation


def test_success_without_an_attempt_that_succeeded_is_found() -> None:
    (violation,) = found(a_task(failing(1, 1.0, 2.0)))

    assert "no attempt succeeded" in violation

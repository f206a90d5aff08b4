"""Submissions while the coordinator is away: durable before the app is told, replayed in order."""

import pytest

from protocol import messages as m
from protocol.errors import Code
from protocol.limits import DAY_MS
from protocol.submission import encode_batch
from sidecar.core import events as e
from sidecar.core.spool import PAUSE_MS, REOPEN_MS_MAX, REOPEN_MS_MIN, STEADY_MS
from tests.sidecar.core.driver import APP, SERVICE
from tests.sidecar.core.spooling import SPOOL_AFTER_MS, SpoolDriver, away, spooled
from tests.support.builders import a_granted_task, a_submission, task_id

OTHER = 3
TIMEOUT_MS = 10_000
BATCH_BYTES = len(encode_batch([a_submission(1)]))


def requests(sent: list[tuple[int, list[int]]]) -> list[int]:
    return [request for request, _ in sent]


def tasks(sent: list[tuple[int, list[int]]]) -> list[int]:
    return [number for _, numbers in sent for number in numbers]


def drain(driver: SpoolDriver) -> list[int]:
    """Accept what is sent until nothing more is; return the tasks' numbers."""
    seen: list[int] = []
    while sent := driver.sent():
        seen += tasks(sent)
        driver.accept(*requests(sent))
    return seen


# --- What an app is told -------------------------------------------------------------------------


def test_app_is_told_only_after_the_commit() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS - 1)
    assert driver.work is None

    driver.advance(1)
    assert driver.verdicts() == []
    driver.commit()

    assert driver.verdicts() == [(1, Code.SPOOLED)]
    assert [len(tasks) for _, tasks in driver.store.batches.values()] == [BATCH_BYTES]


def test_nothing_is_sent_before_it_is_durable() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)

    driver.open()
    assert driver.sent() == []
    driver.commit()

    assert tasks(driver.sent()) == [1]


def test_once_one_is_spooled_the_next_wait_only_for_their_commit() -> None:
    driver = spooled(1)

    driver.submit(2)

    assert driver.verdicts() == [(2, Code.SPOOLED)]


def test_what_waited_when_the_first_was_spooled_is_spooled_before_what_came_later() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS // 2)
    driver.submit(2)
    driver.advance(SPOOL_AFTER_MS // 2)
    driver.submit(3)
    driver.commit()

    driver.open()

    assert tasks(driver.sent()) == [1, 2, 3]


def test_answer_that_comes_after_the_spooling_is_ignored_and_the_batch_is_sent_again() -> None:
    driver = SpoolDriver()
    driver.open()
    driver.attach(APP)
    driver.submit(1)
    [(before, _)] = driver.sent()
    driver.advance(SPOOL_AFTER_MS)
    driver.commit()
    assert driver.verdicts() == [(1, Code.SPOOLED)]
    [(again, numbers)] = driver.sent()
    assert (again != before, numbers) == (True, [1])

    driver.accept(before)
    assert driver.facts()["spooled_batches"] == 1
    driver.accept(again)

    assert driver.facts()["spooled_batches"] == 0
    assert driver.verdicts() == []


def test_tasks_that_would_be_refused_are_told_at_spooling_and_not_replayed() -> None:
    driver = away()
    batch = encode_batch([a_submission(1), a_submission(2, handler="No Name"), a_submission(3)])
    driver.submit_bytes(batch, request=7)
    driver.advance(SPOOL_AFTER_MS)
    driver.commit()

    [accepted] = driver.told(m.Accepted, APP)
    [verdict] = accepted.verdicts
    assert (verdict.request, verdict.code) == (7, Code.SPOOLED)
    assert [(r.place, r.code) for r in verdict.rejections] == [(1, Code.INVALID_HANDLER)]
    driver.open()
    assert tasks(driver.sent()) == [1, 3]


def test_batch_of_nothing_but_mistakes_is_answered_and_not_spooled() -> None:
    driver = away()

    driver.submit_bytes(encode_batch([a_submission(1, handler="No Name")]), request=1)
    driver.submit_bytes(b"\xc1", request=2)
    driver.advance(SPOOL_AFTER_MS)

    [accepted] = driver.told(m.Accepted, APP)
    assert [(v.request, v.code) for v in accepted.verdicts] == [(1, None), (2, Code.MALFORMED)]
    assert [r.code for r in accepted.verdicts[0].rejections] == [Code.INVALID_HANDLER]
    assert driver.work is None


def test_app_that_left_keeps_what_was_on_its_way_to_the_spool() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.close(APP)
    driver.commit()

    driver.open()

    assert tasks(driver.sent()) == [1]


# --- Order ---------------------------------------------------------------------------------------


def test_new_submissions_go_behind_the_spool_also_with_a_session() -> None:
    driver = spooled(1)
    driver.commits_at_once = False
    driver.open()
    driver.submit(2)
    [(first, numbers)] = driver.sent()
    assert numbers == [1]

    driver.accept(first)

    assert tasks(driver.sent()) == [2]


def test_batch_that_insists_passes_the_spool_by() -> None:
    driver = spooled(1, 2)
    driver.open()
    driver.forget()

    driver.insist(3)

    [(request, numbers)] = driver.sent()
    assert numbers == [3]
    driver.accept(request)
    assert driver.verdicts() == [(3, None)]


def test_batch_that_insists_is_never_spooled() -> None:
    driver = spooled(1)

    driver.insist(2)
    driver.advance(TIMEOUT_MS)

    assert driver.verdicts() == [(2, Code.UNAVAILABLE)]
    assert driver.facts()["spooled_batches"] == 1


def test_everything_is_replayed_once_in_order_and_then_gone() -> None:
    driver = spooled(1, 2, 3)

    driver.open()

    assert drain(driver) == [1, 2, 3]
    assert driver.store.batches == {}
    driver.submit(4)
    [(request, _)] = driver.sent()
    driver.accept(request)
    assert driver.verdicts() == [(4, None)]


def test_batch_stays_in_the_store_until_its_verdict() -> None:
    driver = spooled(1)
    driver.open()
    [(request, _)] = driver.sent()
    driver.keep_alive(PAUSE_MS)
    assert len(driver.store.batches) == 1

    driver.accept(request)

    assert driver.store.batches == {}


def test_unanswered_replay_is_sent_again_in_the_next_session() -> None:
    driver = spooled(1, 2)
    driver.open()
    [(first, _), _] = driver.sent()
    driver.accept(first)

    driver.step(e.LinkDown())
    driver.open(resumed=True)

    assert tasks(driver.sent()) == [2]


def test_submissions_that_arrive_while_it_drains_do_not_keep_it_full() -> None:
    """An app that is told at once, and goes on at once, must not outrun the coordinator."""
    driver = spooled(*range(1, 101))
    driver.open()
    number = 100
    replayed = 0

    for _ in range(1_000):
        driver.submit(number := number + 1)
        for _ in driver.verdicts():
            driver.submit(number := number + 1)
        sent = driver.sent()
        replayed += len(sent)
        driver.accept(*requests(sent)[:1])
        driver.accept(*requests(sent)[1:])
        if not driver.facts()["spooled_batches"]:
            break

    assert driver.facts()["spooled_batches"] == 0
    assert replayed < 400


def test_while_the_coordinator_stands_still_nothing_waits_for_it() -> None:
    driver = spooled(1)
    driver.open()
    driver.submit(2)
    driver.submit(3)
    assert driver.verdicts() == []

    driver.keep_alive(SPOOL_AFTER_MS)
    assert driver.verdicts() == [(2, Code.SPOOLED), (3, Code.SPOOLED)]
    driver.submit(4)

    assert driver.verdicts() == [(4, Code.SPOOLED)]


def test_large_batch_is_spooled_before_it_would_be_given_up() -> None:
    """Half as much as the coordinator takes is too little for it."""
    driver = spooled(*range(1, 21))
    driver.open()
    sent = requests(driver.sent())
    driver.submit(*range(100, 200))
    for request in sent[: TIMEOUT_MS // SPOOL_AFTER_MS // 2]:
        assert driver.verdicts() == []
        driver.keep_alive(SPOOL_AFTER_MS - 1)
        driver.accept(request)

    driver.keep_alive(SPOOL_AFTER_MS - 1)

    assert driver.verdicts() == [(100, Code.SPOOLED)]


# --- Verdicts on what is replayed ----------------------------------------------------------------


def test_batch_without_room_at_the_coordinator_pauses_all_and_comes_again_in_order() -> None:
    driver = spooled(1, 2, 3)
    driver.open()
    sent = requests(driver.sent())
    driver.accept(*sent, code=Code.STORE_FULL)

    driver.keep_alive(PAUSE_MS - 1)
    assert driver.sent() == []
    driver.keep_alive(1)

    assert tasks(driver.sent()) == [1, 2, 3]
    assert driver.facts()["spooled_refused"] == 0


def test_pause_is_as_long_as_the_coordinator_says() -> None:
    driver = spooled(1)
    driver.open()
    driver.accept(*requests(driver.sent()), code=Code.BUSY, retry_after_ms=3_000)

    driver.keep_alive(2_999)
    assert driver.sent() == []
    driver.keep_alive(1)

    assert tasks(driver.sent()) == [1]


def test_new_session_ends_a_pause() -> None:
    driver = spooled(1)
    driver.open()
    driver.accept(*requests(driver.sent()), code=Code.BUSY, retry_after_ms=60_000)

    driver.step(e.LinkDown())
    driver.open(resumed=True)

    assert tasks(driver.sent()) == [1]


def test_very_many_batches_without_room_cost_no_time_each() -> None:
    """A sort of all for each verdict took hours here."""
    numbers = range(1, 20_001)
    driver = away(submit_bytes_per_connection_max=10**9, spool_window_bytes=10**9)
    driver.commits_at_once = True
    for number in numbers:
        driver.core.step(
            driver.now_ms,
            e.FromLocal(
                APP, m.Submit([m.Batch(number, encode_batch([a_submission(number)]), True)])
            ),
        )
    driver.advance(SPOOL_AFTER_MS)
    driver.open()
    sent = driver.sent()
    assert len(sent) == len(numbers)

    driver.accept(*reversed(requests(sent)), code=Code.BUSY)
    driver.keep_alive(PAUSE_MS)

    assert tasks(driver.sent()) == list(numbers)


def test_final_refusals_are_counted_and_told_to_operators_once() -> None:
    driver = spooled(1, 2, 3)
    driver.open()
    first, second, third = requests(driver.sent())

    driver.coordinator(
        m.Accepted(
            [
                m.Verdict(first, None, "", 0, [m.Rejection(0, Code.DUPLICATE_ID, "")]),
                m.Verdict(second, Code.BATCH_TOO_LARGE, "", 0, []),
                m.Verdict(third, None, "", 0, []),
            ]
        )
    )

    refused = [note for note in driver.notes if note.name == "spooled_refused"]
    task = "018bcfe5-6800-7000-8000-000000000001"
    assert [note.facts for note in refused] == [
        {"count": 2, "code": Code.DUPLICATE_ID, "task": task}
    ]
    assert driver.facts()["spooled_refused"] == 2
    assert driver.store.batches == {}


def test_operators_are_told_when_spooling_begins_and_when_all_of_it_is_accepted() -> None:
    driver = away()
    driver.commits_at_once = True
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.submit(2)
    assert [note.name for note in driver.notes] == ["spooling"]
    driver.forget()

    driver.open()
    drain(driver)

    assert [note.name for note in driver.notes if "spool" in note.name] == ["spool_drained"]


# --- Bounds --------------------------------------------------------------------------------------


def test_full_spool_tells_apps_to_wait_and_takes_again_when_there_is_room() -> None:
    driver = away(spool_bytes_max=2 * BATCH_BYTES)
    driver.commits_at_once = True
    for number in (1, 2, 3):
        driver.submit(number)
    driver.advance(SPOOL_AFTER_MS)
    [busy] = [v for x in driver.told(m.Accepted) for v in x.verdicts if v.code == Code.BUSY]
    assert (busy.request, busy.retry_after_ms) == (3, PAUSE_MS)

    driver.open()
    drain(driver)
    driver.step(e.LinkDown())
    driver.submit(4)
    driver.advance(SPOOL_AFTER_MS)

    assert driver.verdicts() == [(4, Code.SPOOLED)]


def test_batch_that_was_sent_is_not_called_busy_by_a_full_spool() -> None:
    """It may have been accepted; "busy" says that it was not."""
    driver = SpoolDriver(spool_bytes_max=BATCH_BYTES - 1)
    driver.open()
    driver.attach(APP)
    driver.submit(1)
    [(request, _)] = driver.sent()

    driver.advance(SPOOL_AFTER_MS)
    assert driver.verdicts() == []
    driver.accept(request)

    assert driver.verdicts() == [(1, None)]


def test_store_that_hangs_does_not_let_memory_grow() -> None:
    driver = away(
        submit_bytes_max=8 * BATCH_BYTES,
        submit_bytes_per_connection_max=100 * BATCH_BYTES,
        spool_window_bytes=4 * BATCH_BYTES,
    )
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)

    for number in range(2, 101):
        driver.submit(number)

    refused = [request for request, code in driver.verdicts() if code == Code.BUSY]
    assert refused == list(range(13, 101))
    driver.commits_at_once = True
    driver.commit()
    assert [request for request, _ in driver.verdicts()] == list(range(1, 13))
    driver.open()
    assert drain(driver) == list(range(1, 13))


@pytest.mark.parametrize("window_batches", [1, 2, 3, 7])
def test_more_than_memory_holds_is_read_back_in_order(window_batches: int) -> None:
    numbers = list(range(1, 41))
    driver = spooled(*numbers, spool_window_bytes=window_batches * BATCH_BYTES)

    driver.open()

    assert drain(driver) == numbers
    assert driver.store.batches == {}
    assert driver.store.loads > 3


@pytest.mark.parametrize("window_batches", [1, 4])
def test_submissions_during_the_replay_are_read_back_too(window_batches: int) -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=window_batches * BATCH_BYTES)
    driver.open()
    seen: list[int] = []
    number = 10
    while sent := driver.sent():
        seen += tasks(sent)
        if number < 30:
            number += 1
            driver.submit(number)
            driver.keep_alive(SPOOL_AFTER_MS)
        driver.accept(*requests(sent))

    assert seen == list(range(1, 31))
    assert driver.store.batches == {}


def test_in_flight_bytes_are_bounded_and_the_rest_follows() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=8 * BATCH_BYTES)
    driver.open()

    sent = driver.sent()
    assert tasks(sent) == [1, 2, 3, 4]
    driver.accept(sent[0][0])

    assert tasks(driver.sent()) == [5]


# --- Over restarts -------------------------------------------------------------------------------


def test_next_process_replays_what_an_earlier_one_was_told_to_keep() -> None:
    store = spooled(1, 2).store
    driver = away(store)
    driver.commits_at_once = True
    driver.commit()
    driver.submit(3)
    assert driver.verdicts() == [(3, Code.SPOOLED)]

    driver.open()

    assert drain(driver) == [1, 2, 3]
    assert store.batches == {}


def test_batch_that_has_grown_too_old_is_left_alone_and_said() -> None:
    driver = spooled(1)
    driver.advance(DAY_MS)
    driver.submit(2)

    driver.advance(1)
    driver.open()

    assert tasks(driver.sent()) == [2]
    assert list(driver.store.batches) == [1, 2]
    facts = driver.facts()
    assert (facts["spooled_batches"], facts["spool_left_alone"]) == (1, 1)


def test_batch_that_was_too_old_before_the_start_is_left_alone_and_said() -> None:
    store = spooled(1, 2).store
    driver = SpoolDriver(store, spool_age_ms=100)
    driver.now_ms += SPOOL_AFTER_MS + 101
    driver.commits_at_once = True

    driver.open()
    driver.flush()

    assert driver.sent() == []
    assert [n.facts for n in driver.notes if n.name == "spool_too_old"] == [{"count": 2}]
    assert driver.facts()["spooled_batches"] == 0
    assert list(store.batches) == [1, 2]


def test_what_is_left_alone_counts_for_the_bound_and_not_for_the_order() -> None:
    store = spooled(1, 2).store
    store.damaged = {1, 2}
    driver = SpoolDriver(store, spool_bytes_max=3 * BATCH_BYTES)
    driver.commits_at_once = True
    driver.attach(APP)
    driver.open()

    driver.submit(3)
    [(request, numbers)] = driver.sent()
    assert numbers == [3]
    driver.accept(request)
    driver.step(e.LinkDown())
    driver.submit(4)
    driver.submit(5)
    driver.advance(SPOOL_AFTER_MS)

    assert sorted(driver.verdicts()) == [(3, None), (4, Code.SPOOLED), (5, Code.BUSY)]


def test_damaged_batch_is_left_alone_and_said_and_the_others_are_replayed() -> None:
    store = spooled(1, 2, 3).store
    store.damaged = {2}
    driver = SpoolDriver(store)
    driver.commits_at_once = True
    driver.flush()
    assert [n.facts for n in driver.notes if n.name == "spool_damaged"] == [{"count": 1}]

    driver.open()

    assert drain(driver) == [1, 3]
    assert list(store.batches) == [2]
    assert driver.facts()["spool_left_alone"] == 1


def test_store_that_holds_less_than_was_put_is_not_asked_for_ever() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=2 * BATCH_BYTES)
    for number in range(5, 11):
        del driver.store.batches[number]

    driver.open()

    assert drain(driver) == [1, 2, 3, 4]
    assert driver.facts()["spooled_batches"] == 0
    assert driver.core.next_due_ms() is not None
    driver.submit(11)
    assert tasks(driver.sent()) == [11]


# --- When the store fails ------------------------------------------------------------------------


def test_failed_store_tells_unavailable_and_the_sidecar_goes_on_without() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.submit(2)
    driver.fail()
    assert driver.verdicts() == [(1, Code.UNAVAILABLE), (2, Code.UNAVAILABLE)]
    assert driver.facts()["spool"] == "failed"

    driver.submit(3)
    driver.open()
    [(request, numbers)] = driver.sent()
    driver.accept(request)

    assert numbers == [3]
    assert driver.verdicts() == [(3, None)]
    assert driver.work is None


def test_batch_that_waits_when_the_store_fails_is_given_up_in_its_time() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.fail()
    driver.forget()

    driver.submit(2)
    driver.advance(TIMEOUT_MS)

    assert driver.verdicts() == [(2, Code.UNAVAILABLE)]


def test_what_is_in_memory_is_replayed_after_a_failure_and_the_rest_is_said() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=4 * BATCH_BYTES)
    driver.commits_at_once = False
    driver.submit(11)
    driver.fail()
    [failed] = [note for note in driver.notes if note.name == "spool_failed"]
    assert failed.facts["not_replayed"] == 6
    assert driver.verdicts() == [(11, Code.UNAVAILABLE)]

    driver.open()
    driver.submit(12)
    assert drain(driver) == [1, 2, 3, 4, 12]

    assert driver.work is None
    assert driver.facts()["spooled_batches"] == 6


def test_failed_store_is_tried_again_ever_later_and_each_time_said() -> None:
    driver = spooled(1)
    driver.commits_at_once = False
    driver.submit(2)
    driver.fail()
    waits = []

    for _ in range(6):
        failed_ms = driver.now_ms
        while driver.work is None:
            driver.advance(1_000)
        waits.append(driver.now_ms - failed_ms)
        assert driver.work.reopen
        driver.fail()

    assert waits == [min(REOPEN_MS_MIN * 2**n, REOPEN_MS_MAX) for n in range(6)]
    said = [note for note in driver.notes if note.name == "spool_failed"]
    assert [note.facts["next_try_in_ms"] for note in said[:-1]] == waits


@pytest.mark.parametrize(
    ("steady_ms", "wait_ms"), [(REOPEN_MS_MIN, 2 * REOPEN_MS_MIN), (STEADY_MS, REOPEN_MS_MIN)]
)
def test_store_that_fails_again_soon_is_tried_later(steady_ms: int, wait_ms: int) -> None:
    driver = spooled(1)
    driver.commits_at_once = False
    driver.submit(2)
    driver.fail()
    driver.advance(REOPEN_MS_MIN)
    driver.commit()
    driver.advance(steady_ms)

    driver.submit(3)
    driver.fail()

    said = [note for note in driver.notes if note.name == "spool_failed"]
    assert [note.facts["next_try_in_ms"] for note in said] == [REOPEN_MS_MIN, wait_ms]


@pytest.mark.parametrize("after_commit", [True, False])
def test_reopened_store_is_replayed_but_for_what_was_told_unavailable(after_commit: bool) -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=4 * BATCH_BYTES)
    driver.commits_at_once = False
    driver.submit(11)
    driver.fail(after_commit=after_commit)
    assert driver.verdicts() == [(11, Code.UNAVAILABLE)]
    driver.open()
    assert drain(driver) == [1, 2, 3, 4]

    driver.commits_at_once = True
    driver.keep_alive(REOPEN_MS_MIN)
    assert drain(driver) == [5, 6, 7, 8, 9, 10]

    assert driver.facts()["spool"] == "ready"
    assert driver.store.batches == {}
    assert [note.name for note in driver.notes[-2:]] == ["spool_reopened", "spool_drained"]


def test_reopened_store_takes_new_submissions_in_the_order_they_came() -> None:
    driver = away()
    driver.submit(1)
    driver.advance(SPOOL_AFTER_MS)
    driver.fail()
    driver.forget()
    driver.advance(REOPEN_MS_MIN - SPOOL_AFTER_MS // 2)
    driver.submit(2)

    driver.commits_at_once = True
    driver.advance(SPOOL_AFTER_MS // 2)
    driver.submit(3)
    driver.advance(SPOOL_AFTER_MS)

    assert driver.verdicts() == [(2, Code.SPOOLED), (3, Code.SPOOLED)]
    driver.open()
    assert drain(driver) == [2, 3]


def test_question_is_not_held_up_by_a_store_that_has_failed() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=4 * BATCH_BYTES)
    driver.commits_at_once = False
    driver.submit(11)
    driver.fail()
    driver.open()
    drain(driver)

    driver.local(APP, m.Query([m.Question(1, task_id(1), 0)]))

    assert len(driver.said(m.Query)) == 1


def test_pause_ends_after_a_failure_too() -> None:
    driver = spooled(1)
    driver.commits_at_once = False
    driver.submit(2)
    driver.open()
    driver.fail()
    driver.accept(*requests(driver.sent()), code=Code.BUSY)

    driver.keep_alive(PAUSE_MS)

    assert tasks(driver.sent()) == [1]


# --- Questions, and other things that go on ------------------------------------------------------


def test_question_waits_for_what_was_spooled_before_it_and_for_nothing_else() -> None:
    driver = spooled(1, 2)
    driver.local(APP, m.Query([m.Question(5, task_id(2), 0)]))
    driver.submit(3)
    driver.open()
    sent = driver.sent()
    assert tasks(sent) == [1, 2, 3]
    driver.accept(sent[0][0], sent[2][0])
    assert driver.said(m.Query) == []

    driver.submit(4)
    driver.keep_alive(SPOOL_AFTER_MS)
    driver.accept(sent[1][0])

    [query] = driver.said(m.Query)
    assert [q.id for q in query.questions] == [task_id(2)]
    assert driver.facts()["spooled_batches"] == 1


def test_question_waits_also_for_what_is_in_the_store_only() -> None:
    driver = spooled(*range(1, 11), spool_window_bytes=2 * BATCH_BYTES)
    driver.local(APP, m.Query([m.Question(5, task_id(10), 0)]))
    driver.open()

    while sent := driver.sent():
        assert driver.said(m.Query) == []
        driver.accept(*requests(sent))

    assert len(driver.said(m.Query)) == 1


def test_work_goes_on_while_the_spool_is_replayed() -> None:
    driver = spooled(1)
    driver.serve(SERVICE, slots=1)
    driver.open()
    assert tasks(driver.sent()) == [1]

    driver.grant(a_granted_task(9))

    assert driver.handed(SERVICE) == [task_id(9)]

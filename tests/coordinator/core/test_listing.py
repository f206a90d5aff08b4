"""Pages of tasks: complete, in their order, and bounded, whatever index they come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import listing
from coordinator.core.effects import Scan
from coordinator.core.filters.language import parse
from coordinator.core.filters.predicate import compile_filter
from coordinator.core.listing import Cursor, ForeignCursor, Listing
from coordinator.core.task import Task
from protocol.ids import to_text
from protocol.messages import Failure, OutcomeKind
from tests.coordinator.core.bench import Bench, small_windows
from tests.coordinator.core.sidecar import Sidecar, failed, success
from tests.support.builders import a_submission, task_id

HANDLERS = ("email.send", "email.digest", "image.scale")
FILTERS = [
    "",
    "state=ready",
    "state=ready priority=high",
    "state=ready handler=email.*",
    "state=ready handler!=email.send",
    "state=leased,running",
    "state=scheduled",
    "state=scheduled collection=spring",
    "state=dead",
    "state=succeeded,dead,expired",
    "state=dead,ready",
    "handler~image",
    "error_type=ValueError",
    "since=1s",
    f"id={to_text(task_id(3))},{to_text(task_id(9))},{to_text(task_id(999))}",
    f"id={to_text(task_id(1))[:35]}*",
    f"id={to_text(task_id(3))} state=ready",
]


def pages(bench: Bench, text: str, limit: int = 1000, at: Cursor | None = None) -> list[list[Task]]:
    """Turn all pages."""
    found = []
    while True:
        page = Listing(bench.shard.ledger, parse(text), bench.now, limit=limit, cursor=at)
        while reads := page.reads():
            page.take([bench.read(read) for read in reads])
        found.append(page.found)
        at = page.cursor
        if at is None:
            return found


def ids(tasks: list[Task]) -> list[bytes]:
    return [task.id for task in tasks]


def expected(bench: Bench, text: str) -> set[bytes]:
    """Return what the filter means, by looking at every task there is."""
    ledger = bench.shard.ledger
    tasks = bench.audit().tasks | ledger.waiting | ledger.leased
    means = compile_filter(parse(text), bench.now.wall_ms)
    return {task.id for task in tasks.values() if means(task)}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a shard with tasks in every state, most of them in the store only."""
    small_windows(monkeypatch)
    for name, value in (("CHUNK", 3), ("ROWS", 2)):
        monkeypatch.setattr(listing, name, value)
    bench = Bench()
    sidecar = Sidecar(bench)
    for number in range(1, 61):
        options: dict[str, object] = {}
        if number % 4 == 0:
            options["delay_ms"] = 1_000 * number
        if number % 5 == 0:
            options["collection"] = "spring"
        if number % 7 == 0:
            options["priority"] = 1
        if number % 11 == 0:
            options["expires_ms"] = 100
        handler = HANDLERS[number % 3]
        sidecar.submit(a_submission(number, handler=handler, options=options or None))
    sidecar.serve(6, HANDLERS[0])
    for place, lease in enumerate(sidecar.granted()[:5]):
        if place % 2:
            sidecar.report(success(lease))
        else:
            sidecar.report(failed(lease, OutcomeKind.FATAL, Failure("ValueError", "no")))
    bench.pass_time(200)
    bench.tick()
    return bench


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_pages_hold_together_what_the_filter_means_each_once(
    bench: Bench, text: str, limit: int
) -> None:
    found = pages(bench, text, limit)

    together = [task_id for page in found for task_id in ids(page)]
    assert set(together) == expected(bench, text)
    assert len(together) == len(set(together))
    assert all(len(page) <= limit for page in found)


def test_fixture_has_tasks_for_most_filters(bench: Bench) -> None:
    empty = [text for text in FILTERS if not expected(bench, text)]
    assert empty == FILTERS[-1:]


def test_latest_come_first_where_all_records_are_read(bench: Bench) -> None:
    (found,) = pages(bench, "handler=email.send")
    assert ids(found) == sorted(ids(found), reverse=True)


def test_those_due_first_come_first_among_the_scheduled(bench: Bench) -> None:
    (found,) = pages(bench, "state=scheduled")
    due = [task.due_ms for task in found]
    assert due == sorted(due)


def test_page_ends_when_enough_was_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SCANNED_MAX", 10)

    found = pages(bench, "handler=image.scale attempts>5")

    assert len(found) >= 6
    assert not any(found)


def test_no_read_is_longer_than_a_chunk(bench: Bench) -> None:
    bench.reads.clear()
    pages(bench, "attempts>5")
    assert {read.limit for read in bench.reads if isinstance(read, Scan)} == {3}


def test_age_means_the_same_on_all_pages(bench: Bench) -> None:
    page = Listing(bench.shard.ledger, parse("since=1s"), bench.now, limit=1)
    page.take([bench.read(read) for read in page.reads()])
    assert page.cursor is not None
    bench.pass_time(1_000_000)

    rest = pages(bench, "since=1s", at=page.cursor)

    assert sum(len(p) for p in rest) == 59


def test_many_leases_are_read_from_their_records(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LEASED_MAX", 0)
    (found,) = pages(bench, "state=leased")
    assert set(ids(found)) == expected(bench, "state=leased")
    assert found


def test_damaged_record_is_left_out_and_nothing_else(bench: Bench) -> None:
    whole = expected(bench, "state=dead")
    victim = min(whole)
    key = b"t" + victim
    bench.audited = False
    bench.pairs[key] = bench.pairs[key][:-1] + b"\xff"

    (found,) = pages(bench, "state=dead")

    assert set(ids(found)) == whole - {victim}


@given(
    st.sampled_from(FILTERS), st.sampled_from("iltrsx"), st.binary(max_size=40), st.integers(0, 300)
)
def test_cursor_of_nobody_does_no_harm(text: str, plan: str, key: bytes, skip: int) -> None:
    bench = Bench(audited=False)
    Sidecar(bench).submit(a_submission())
    try:
        found = pages(bench, text, at=Cursor(plan, 0, key, skip))
    except ForeignCursor:
        return
    assert sum(len(page) for page in found) <= 1

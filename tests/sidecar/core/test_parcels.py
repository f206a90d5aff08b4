"""Whatever is gathered, no message grows over the frame's limit, and nothing is left out."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol import messages as m
from protocol.limits import BATCH_BYTES_MAX, BATCH_TASKS_MAX, DELAY_MS_MAX, FRAME_BYTES_MAX
from sidecar.core import parcels as p
from tests.support.builders import a_granted_task, a_status, an_outcome, task_id

SIZES = st.lists(st.integers(0, BATCH_BYTES_MAX + 10), max_size=20)


@given(SIZES)
def test_parcels_keep_order_and_bounds(sizes: list[int]) -> None:
    made = list(p.parcels(sizes, lambda size: size))

    assert [size for parcel in made for size in parcel] == sizes
    assert all(sum(parcel) <= BATCH_BYTES_MAX or len(parcel) == 1 for parcel in made)


def test_parcels_are_bounded_in_number() -> None:
    made = list(p.parcels([0] * (BATCH_TASKS_MAX + 1), lambda size: size))

    assert [len(parcel) for parcel in made] == [BATCH_TASKS_MAX, 1]


def test_large_groups_are_cut_and_every_message_fits_a_frame() -> None:
    groups = [
        m.Group(f"email.{g}", [a_granted_task(n, payload=bytes(300_000)) for n in range(10)])
        for g in range(3)
    ]

    made = list(p.task_groups(groups))

    assert [t for part in made for g in part for t in g.tasks] == [
        t for g in groups for t in g.tasks
    ]
    assert all(len(codec.encode(m.Tasks(part))) < FRAME_BYTES_MAX for part in made)


TEXT = st.text(max_size=200)
EXTRAS = {
    "last_error": "€" * 1_100,
    "priority": 3,
    "checkpoint": bytes(4_096),
    "meta": {"n" * 64: "€" * 256},
}
ATTEMPT = m.AttemptRecord(1, 2, 3, 1, "ß" * 128, "é" * 128, "—" * 1024, "€" * 4096)


@given(
    st.one_of(
        st.none(),
        st.builds(m.Result, st.none(), st.binary(max_size=500)),
        st.builds(m.Failure, TEXT, TEXT, TEXT, st.integers(0, DELAY_MS_MAX)),
    )
)
def test_size_of_an_outcome_is_estimated_from_above(value: m.Result | m.Failure | None) -> None:
    outcome = an_outcome(1, token=2**63 - 1, run_us=2**63 - 1, value=value)

    assert len(codec.pack(outcome)) <= p.outcome_bytes(outcome)


def test_sizes_of_other_items_are_estimated_from_above() -> None:
    task = a_granted_task(1, extras=EXTRAS, content_type="c" * 128)
    batch = m.Batch(2**63 - 1, bytes(10))
    verdict = m.Verdict(2**63 - 1, "busy", "€" * 100, 0, [m.Rejection(9, "x" * 20, "€" * 50)])
    verdict = verdict._replace(duplicates=list(range(9_000)))
    update = m.Update(task_id(1), 2**63 - 1, 1000, "€" * 256, bytes(4_096))
    result = m.Result("c" * 128, bytes(1_000))
    status = a_status(1, result=result, history=[ATTEMPT] * 20, error="€" * 4_096)
    status = status._replace(note="€" * 256, checkpoint=bytes(4_096))

    assert len(codec.pack(task)) <= p.task_bytes(task)
    assert len(codec.pack(batch)) <= p.batch_bytes(batch)
    assert len(codec.pack(verdict)) <= p.verdict_bytes(verdict)
    assert len(codec.pack(update)) <= p.update_bytes(update)
    for reply in (m.Reply(2**63 - 1, None, status), m.Reply(1, "unavailable", None)):
        assert len(codec.pack(reply)) <= p.reply_bytes(reply)

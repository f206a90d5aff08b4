"""CI's share of the mutated answers, and the proof that harm would be seen."""

import os
from collections.abc import Callable

import pytest

from sidecar.invoke import connection, push
from sidecar.invoke.connection import Connection
from tests.fuzz import answers
from tests.fuzz.answers import ANSWERS_PER_BATCH

ANSWERS = int(os.environ.get("PILLION_FUZZ_ANSWERS", "20000"))
SEED = 1
BATCHES_UNTIL_SEEN = 8


@pytest.mark.share
@pytest.mark.timeout(120)
def test_no_answer_harms_who_asked() -> None:
    report = answers.run(SEED, range(-(-ANSWERS // ANSWERS_PER_BATCH)))

    assert report.findings == []
    assert report.answers >= ANSWERS
    assert set(report.settled) >= {"success", "retry", "defer", "fatal", "returned", "lost"}


def forget_that_a_connection_broke(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push.Delivery, "failed", lambda *_: None)


def keep_bodies_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push.Delivery, "body_bytes_max", 2**40)
    patch.setattr(connection, "HEAD_BYTES_MAX", 2**40)
    patch.setattr(answers, "BODY_SLACK_BYTES", 100_000)
    patch.setattr(answers, "HEAD_BYTES_MAX", 64 * 1024)


def answer_twice(patch: pytest.MonkeyPatch) -> None:
    settle = Connection._settle

    def twice(self: Connection) -> None:
        call = self._call
        settle(self)
        if call is not None:
            call._attempt.ended = False  # type: ignore[attr-defined]
            call._attempt.host.running[call._attempt] = None  # type: ignore[attr-defined]

    patch.setattr(Connection, "_settle", twice)


SABOTAGES = [
    forget_that_a_connection_broke,
    keep_bodies_of_any_length,
    answer_twice,
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.__name__.replace("_", "-"))
def test_harm_is_seen(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    sabotage(monkeypatch)
    assert answers.run(SEED, range(BATCHES_UNTIL_SEEN)).findings

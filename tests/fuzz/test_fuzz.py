"""CI's share of the mutated frames, and the proof that harm would be seen."""

import os
import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from coordinator.core import granting, outcomes
from coordinator.core.shard import Shard
from protocol import codec
from sidecar.core.peers import Peers
from sidecar.core.questions import Questions
from tests.fuzz import campaign, corpus
from tests.fuzz.campaign import FRAMES_PER_BATCH
from tests.fuzz.mutate import Mutator

FRAMES = int(os.environ.get("PILLION_FUZZ_FRAMES", "50000"))
SEED = 1
BATCHES_UNTIL_SEEN = 15


@pytest.mark.share
@pytest.mark.timeout(120)
def test_no_frame_harms_who_reads_it_or_anyone_beside() -> None:
    report = campaign.run(SEED, range(-(-FRAMES // FRAMES_PER_BATCH)))

    assert [str(finding) for finding in report.findings] == []
    assert report.frames >= FRAMES
    assert report.messages > report.frames // 6  # Many get through to the cores.


def test_the_same_seed_makes_the_same_frames() -> None:
    def frames(seed: int) -> list[bytes]:
        mutator = Mutator(random.Random(seed), corpus.golden())
        return [mutator.next() for _ in range(500)]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)


# Bugs put in on purpose: each must be seen


def let_errors_of_msgpack_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "unpack", msgpack.unpackb)


def let_an_attempt_begin_before_time(patch: pytest.MonkeyPatch) -> None:
    """A run of more milliseconds than MessagePack has integers ended the coordinator."""
    patch.setattr(granting, "max", lambda _, since_ms: since_ms, raising=False)


def let_an_attempt_be_told_to_have_begun_before_time(patch: pytest.MonkeyPatch) -> None:
    """A start before 1970 made every later answer about the task unreadable."""
    patch.setattr(outcomes, "max", lambda _, started_ms: started_ms, raising=False)


def end_the_sessions_of_all_who_break_the_protocol(patch: pytest.MonkeyPatch) -> None:
    step: Callable[..., Any] = Shard.step

    def broken(self: Shard, now: Any, event: Any) -> Any:
        if type(event).__name__ == "Broke":
            for session in list(self._ledger.sessions._by_incarnation.values()):
                self._greeting.goodbye(now, session, "broke")
        return step(self, now, event)

    patch.setattr(Shard, "step", broken)


def close_the_first_connection_for_what_another_has_done(patch: pytest.MonkeyPatch) -> None:
    close: Callable[..., bool] = Peers.close
    patch.setattr(Peers, "close", lambda self, _: close(self, 1))


def mix_the_questions_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Questions, "_remove", lambda self, number: self._waiting.pop(number))


SABOTAGES = [
    let_errors_of_msgpack_out,
    let_an_attempt_begin_before_time,
    let_an_attempt_be_told_to_have_begun_before_time,
    end_the_sessions_of_all_who_break_the_protocol,
    close_the_first_connection_for_what_another_has_done,
    mix_the_questions_up,
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.__name__.replace("_", "-"))
def test_harm_is_seen(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    sabotage(monkeypatch)
    assert campaign.run(SEED, range(BATCHES_UNTIL_SEEN)).findings


def test_growth_of_the_process_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "MEMORY_BYTES_MAX", -1)
    [finding] = campaign.run(SEED, range(3), 10).findings
    assert "has grown" in finding.problem

import os
from pathlib import Path

import pytest

from tests.support import history
from tests.support.history import Recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, "writer")


def test_events_of_several_processes_come_together_by_task(
    tmp_path: Path, recorder: Recorder
) -> None:
    handler = Recorder(tmp_path, "handler-1")
    recorder.called("a", handler="email.send", crc=7)
    recorder.verdict("a", "accepted")
    handler.began("a", 1, attempt=1, attempts_max=3, crc=7, sidecar="one")
    handler.ended("a", 1, "success", [1, 7])
    recorder.seen("a", state="succeeded", attempts=1, attempts_max=3, result=[1, 7])

    task = history.read(tmp_path).tasks["a"]

    assert task.accepted
    assert task.handler == "email.send"
    assert task.called_ns is not None
    (attempt,) = task.attempts
    (seen,) = task.seen
    assert (attempt.process, attempt.how, attempt.result) == ("handler-1", "success", [1, 7])
    assert attempt.ended_ns is not None
    assert task.called_ns <= attempt.began_ns <= attempt.ended_ns <= seen.at_ns


def test_what_was_broken_is_part_of_the_history(tmp_path: Path, recorder: Recorder) -> None:
    recorder.killed("handler-1")
    recorder.cut("one")
    recorder.mended("one")
    recorder.cut("two")

    found = history.read(tmp_path)

    assert list(found.killed_ns) == ["handler-1"]
    assert [(c.sidecar, c.until_ns is None) for c in found.cuts] == [("one", False), ("two", True)]


def test_states_that_are_not_the_end_are_not_kept(tmp_path: Path, recorder: Recorder) -> None:
    recorder.seen("a", state="ready", attempts=0, attempts_max=3)

    assert history.read(tmp_path).tasks["a"].seen == []


def test_line_that_a_kill_cut_short_is_no_event(tmp_path: Path, recorder: Recorder) -> None:
    recorder.called("a", handler="email.send", crc=7)
    recorder.called("b", handler="email.send", crc=7)
    with (tmp_path / "writer.jsonl").open("rb+") as file:
        file.truncate(os.fstat(file.fileno()).st_size - 5)

    assert list(history.read(tmp_path).tasks) == ["a"]


def test_second_run_of_one_token_stays_an_attempt_of_its_own(
    tmp_path: Path, recorder: Recorder
) -> None:
    for _ in range(2):
        recorder.began("a", 1, attempt=1, attempts_max=3, crc=7, sidecar="one")
    recorder.ended("a", 1, "success")

    attempts = history.read(tmp_path).tasks["a"].attempts

    assert [attempt.how for attempt in attempts] == [None, "success"]

"""A status is one JSON document, and a result stands in it as it was."""

import json
from typing import Any

import pytest

from protocol.ids import to_text
from protocol.messages import AttemptRecord, OutcomeKind, Result, State
from sidecar.http.status import document
from tests.support.builders import FIRST_MS, a_status, task_id


def shown(**changes: Any) -> Any:
    return json.loads(document(a_status(**changes)))


def test_status_tells_what_there_is_and_nothing_that_is_empty() -> None:
    made = shown(state=State.READY)
    assert made["id"] == to_text(task_id())
    assert (made["state"], made["priority"]) == ("ready", "normal")
    assert made["submitted_at"].endswith("Z")
    assert {"result", "error", "progress", "note", "checkpoint", "cancelling"}.isdisjoint(made)


def test_status_tells_what_a_running_attempt_has_told() -> None:
    made = shown(
        state=State.RUNNING, progress=250, note="a quarter", checkpoint=b"\xff", cancelling=True
    )
    assert made["progress"] == 0.25
    assert (made["note"], made["checkpoint"], made["cancelling"]) == ("a quarter", "_w==", True)


def test_attempts_tell_why_they_failed() -> None:
    record = AttemptRecord(1, FIRST_MS, 1_500, int(OutcomeKind.RETRY), "s", "Boom", "broke", "")
    [made] = shown(history=[record])["history"]
    assert (made["outcome"], made["run_ms"]) == ("retry", 1.5)
    assert (made["error_type"], made["message"]) == ("Boom", "broke")
    assert "detail" not in made


@pytest.mark.parametrize("body", [b'{"a": 1.10}', b"[1e400]", b"12345678901234567890", b"null"])
def test_json_result_stands_in_it_byte_for_byte(body: bytes) -> None:
    raw = document(a_status(state=State.SUCCEEDED, result=Result(None, body)))
    assert raw.endswith(b'"result": ' + body + b"}")


def test_document_has_no_line_ends_whatever_the_result() -> None:
    body = b'{\r\n  "a": "b\\n"\n}'
    raw = document(a_status(result=Result("application/json", body)))
    assert b"\n" not in raw and b"\r" not in raw
    assert json.loads(raw)["result"] == json.loads(body)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result("text/plain", "grün\n".encode()), {"result": "grün\n"}),
        (Result("image/png", b"\xff"), {"result": "/w==", "result_encoding": "base64"}),
        (Result(None, b"NaN"), {"result": "NaN"}),
        (Result(None, b"[" * 100_000), {"result": "[" * 100_000}),
        (Result(None, b""), {"result": ""}),
    ],
    ids=["text", "bytes", "no json", "too deep", "empty"],
)
def test_other_results_are_text_or_base64(result: Result, expected: dict[str, str]) -> None:
    made = shown(result=result)
    assert made["result_type"] == (result.content_type or "application/json")
    assert {k: made[k] for k in ("result", "result_encoding") if k in made} == expected

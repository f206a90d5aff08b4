import hashlib
import os
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import ids
from protocol.errors import InvalidId

TEXT = "018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d"


class Sources:
    """Clock and randomness under the test's control."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms = 1_700_000_000_000
        self.noise = b"\x5a"
        monkeypatch.setattr(time, "time_ns", lambda: self.ms * 1_000_000 + 999_999)
        monkeypatch.setattr(os, "urandom", lambda count: self.noise * count)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    return Sources(monkeypatch)


def test_id_has_the_bits_of_rfc_9562_version_7() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(bytes=ids.TaskIds().new())
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= after


def test_ids_of_one_batch_grow_and_differ() -> None:
    made = ids.TaskIds().batch(10_000)
    assert len(set(made)) == 10_000
    assert made == sorted(made)
    assert all(ids.is_id(i) for i in made)


def test_ids_grow_within_one_millisecond(sources: Sources) -> None:
    source = ids.TaskIds()
    made = [source.new() for _ in range(100)] + source.batch(100)
    assert made == sorted(set(made))
    assert {ids.id_ms(i) for i in made} == {sources.ms}


def test_ids_grow_when_the_clock_steps_back(sources: Sources) -> None:
    source = ids.TaskIds()
    first = source.new()
    sources.ms -= 3_600_000
    second = source.new()
    assert second > first
    assert ids.id_ms(second) == ids.id_ms(first)


def test_ids_follow_the_clock_forward(sources: Sources) -> None:
    source = ids.TaskIds()
    first = source.new()
    sources.ms += 1
    second = source.new()
    assert ids.id_ms(second) == ids.id_ms(first) + 1
    assert second > first


def test_ids_grow_and_stay_valid_when_the_random_part_runs_over(sources: Sources) -> None:
    source = ids.TaskIds()
    source.new()
    source._random = (1 << 74) - 1
    sources.noise = b"\xff"
    last = (sources.ms << 80 | 0x7FFF << 64 | 0xBFFF << 48).to_bytes(16, "big")
    made = source.batch(3)
    assert all(ids.is_id(i) for i in made)
    assert made == sorted(set(made))
    assert made[0] > last
    assert ids.id_ms(made[0]) == sources.ms + 1


def test_random_bits_are_different_in_every_process() -> None:
    assert ids.TaskIds().new()[6:] != ids.TaskIds().new()[6:]


def test_key_gives_the_same_id_each_time_and_another_for_another_handler() -> None:
    made = ids.keyed_id("email.send", "order 42")
    assert made == ids.keyed_id("email.send", "order 42")
    assert len({made, ids.keyed_id("email.send", "order 43"), ids.keyed_id("a", "order 42")}) == 3


@given(st.text(max_size=300))
def test_keyed_id_is_an_id_of_the_time_0(key: str) -> None:
    made = ids.keyed_id("email.send", key)
    assert ids.is_id(made)
    assert ids.id_ms(made) == 0
    assert ids.from_text(ids.to_text(made)) == made


def test_keyed_id_is_the_documented_one() -> None:
    digest = int.from_bytes(hashlib.sha256(b"email.send\0order 42").digest(), "big") >> (256 - 74)
    made = int.from_bytes(ids.keyed_id("email.send", "order 42"), "big")
    assert (made >> 64 & 0xFFF) << 62 | made & (1 << 62) - 1 == digest


def test_text_is_the_usual_form_of_a_uuid() -> None:
    made = ids.TaskIds().new()
    assert ids.to_text(made) == str(uuid.UUID(bytes=made))


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_text_gives_the_id_back(ms: int, random: int) -> None:
    value = ms << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & ((1 << 62) - 1)
    made = value.to_bytes(16, "big")
    assert ids.from_text(ids.to_text(made)) == made
    assert ids.from_text(ids.to_text(made).upper()) == made
    assert ids.id_ms(made) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "email.send",
        TEXT.replace("-", ""),
        TEXT[:-1],
        TEXT + "0",
        TEXT + "\n",
        f" {TEXT}",
        f"{{{TEXT}}}",
        f"urn:uuid:{TEXT}",
        TEXT.replace("f", "_"),
        TEXT.replace("0", "\u0660"),
        "018f2b4c-5a3e-4c10-8a44-2f1f0a9b3c5d",  # Version 4.
        "018f2b4c-5a3e-7c10-0a44-2f1f0a9b3c5d",  # Another variant.
        "x" * 1_000_000,
        None,
        5,
        b"018f2b4c-5a3e-7c10-8a44-2f1f0a9b3c5d",
    ],
    ids=lambda text: repr(text)[:40],
)
def test_text_that_is_no_task_id_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidId, match="not a task id; expected a UUIDv7 such as") as caught:
        ids.from_text(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", [b"", bytes(16), bytes(15), bytes(17), TEXT, None, bytearray.fromhex("7f" * 16)]
)
def test_other_values_are_no_ids(value: object) -> None:
    assert not ids.is_id(value)


@pytest.mark.parametrize(
    ("made_ms", "said"),
    [
        (0, "it never existed, or it has ended and its time is over; its id is made of a key"),
        (10_000_000, "or it has ended and its time is over; its id was made 0 min 5 s ago"),
        (2_800_000, "its id was made 2 h 0 min ago"),
        (90_000_000, "it never existed, its id is of a time still to come"),
    ],
)
def test_what_an_id_tells_of_a_task_that_is_not_found(made_ms: int, said: str) -> None:
    text = ids.why_unknown(made_ms.to_bytes(6, "big") + bytes(10), 10_005_000)
    assert said in text
    assert text.startswith("no task has the id ")

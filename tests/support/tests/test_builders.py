from protocol import codec, submission
from protocol.ids import is_id
from tests.support import builders


def test_ids_are_valid_and_grow_with_their_number() -> None:
    ids = [builders.task_id(n) for n in (1, 2, 300, 70_000)]
    assert all(is_id(i) for i in ids)
    assert ids == sorted(set(ids))


def test_a_submission_is_acceptable() -> None:
    [raw] = submission.decode_batch(builders.a_batch().tasks)
    assert submission.check(0, raw) == builders.a_submission()


def test_opening_messages_are_valid() -> None:
    for message in (builders.a_hello(session=3), builders.an_attach(service="email")):
        assert codec.decode(codec.encode(message)) == message

import errno

import pytest

from protocol.descriptors import Shortage

LISTENING = object()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_connection_that_cannot_be_taken_is_meant(number: int) -> None:
    context = {"message": "", "exception": OSError(number, ""), "socket": LISTENING}

    assert Shortage().is_meant(context)


@pytest.mark.parametrize(
    "context",
    [
        {"message": "", "exception": OSError(errno.EIO, ""), "socket": LISTENING},
        {"message": "", "exception": OSError(errno.EMFILE, "")},
        {"message": "", "exception": ValueError(), "socket": LISTENING},
        {"message": ""},
    ],
)
def test_any_other_error_is_not(context: dict[str, object]) -> None:
    assert not Shortage().is_meant(context)


def test_ever_fewer_of_many_are_said() -> None:
    shortage = Shortage()

    assert [n for n in range(1, 20) if shortage.add()] == [1, 2, 4, 8, 16]

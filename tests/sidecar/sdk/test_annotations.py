from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import pytest

from sidecar.sdk.annotations import Unsupported, expected


class Address(TypedDict):
    street: str


class Order: ...


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "fits", "misfits"),
    [
        (str, ["", "a"], [1, None, []]),
        (int, [0, -5], [True, 1.0, "1"]),
        (float, [1, 1.5], [True, "1"]),
        (bool, [True], [1, None]),
        (None, [None], [0]),
        (Any, [None, 1, {}], []),
        (object, [None, 1, {}], []),
        (list, [[], [1, "a"]], [{}, "ab"]),
        (list[int], [[], [1]], [["1"], 1]),
        (Sequence[str], [["a"]], ["ab"]),
        (dict, [{}], [[]]),
        (dict[str, int], [{"a": 1}], [{"a": "1"}]),
        (Mapping[str, list[int]], [{"a": [1]}], [{"a": [None]}]),
        (str | None, ["a", None], [1]),
        (Optional[int], [1, None], ["1"]),  # noqa: UP045 (users write it)
        (Union[int, list[str]], [1, ["a"]], [[1]]),  # noqa: UP007
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Annotated[int, "doc"], [1], ["1"]),
        (UserId, [1], ["1"]),
        (Address, [{"street": "x"}], [[]]),
    ],
)
def test_values_fit_as_the_annotation_says(
    annotation: Any, fits: list[Any], misfits: list[Any]
) -> None:
    wanted = expected(annotation)

    assert [wanted.accepts(v) for v in fits] == [True] * len(fits)
    assert [wanted.accepts(v) for v in misfits] == [False] * len(misfits)
    assert wanted.words


@pytest.mark.parametrize(
    "annotation", [Order, bytes, Decimal, set[int], tuple[int, int], dict[int, str], list[Order]]
)
def test_what_json_cannot_carry_is_refused_by_name(annotation: Any) -> None:
    with pytest.raises(Unsupported, match="cannot come from JSON"):
        expected(annotation)

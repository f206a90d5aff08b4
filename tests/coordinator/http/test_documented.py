"""The docs name what is there: each metric and each path, and no others."""

import re

from coordinator.core.filters.fields import FIELDS
from coordinator.http.endpoints import ROUTES
from tests.coordinator.http.asking import Asked, asking
from tests.support.process import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ROWS = [row for row in OPERATIONS.splitlines() if re.match(r"\| `(pillion|process_cpu)_", row)]
NAME = re.compile(r"`((?:pillion|process)_[a-z_]+)")


def test_each_metric_is_documented_and_each_documented_one_is_exported() -> None:
    async def body(asked: Asked) -> None:
        text = (await asked.get("/metrics")).text
        exported = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        documented = {name for row in ROWS for name in NAME.findall(row)}
        assert documented == exported

    asking(body)


def test_each_path_is_documented() -> None:
    missing = [route.path for route in ROUTES if f"`{route.path}" not in OPERATIONS]
    assert missing == []


def test_each_field_of_filters_is_documented() -> None:
    assert [name for name in FIELDS if f"`{name}`" not in OPERATIONS] == []

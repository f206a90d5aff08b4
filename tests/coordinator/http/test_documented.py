"""The docs name what is there: each metric and each path, and no others."""

import re
from dataclasses import fields
from urllib.parse import urlsplit

import yaml

from coordinator.core.filters.fields import FIELDS
from coordinator.http.endpoints import ROUTES
from coordinator.http.scaling import Scale
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


def test_each_example_in_yaml_asks_for_a_path_and_a_field_that_there_are() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL)
    scaled, scraping = map(yaml.safe_load, blocks)
    (trigger,) = scaled["spec"]["triggers"]
    path = urlsplit(trigger["metadata"]["url"]).path
    assert re.sub("[^/]+$", "{name}", path) in {route.path for route in ROUTES}
    assert trigger["metadata"]["valueLocation"] in {field.name for field in fields(Scale)}
    assert scraping["scrape_configs"][0]["job_name"] == "pillion"


def test_each_alert_is_documented() -> None:
    rules = yaml.safe_load((ROOT / "examples" / "grafana" / "alerts.yml").read_text())
    names = {rule["alert"] for rule in rules["groups"][0]["rules"]}
    assert names == set(re.findall(r"`(Pillion[A-Za-z]+)`", OPERATIONS))


def test_each_field_of_filters_is_documented() -> None:
    assert [name for name in FIELDS if f"`{name}`" not in OPERATIONS] == []

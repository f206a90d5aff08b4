"""Dashboard and alerts name only what a coordinator exports, and commands that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml

from coordinator.cli import cli
from protocol import messages as m
from tests.coordinator.http.asking import Asked, asking
from tests.support.builders import a_submission
from tests.support.process import ROOT
from tests.support.promql import Checker, Wrong, exported, placeholders

FOLDER = ROOT / "examples" / "grafana"
DASHBOARD = json.loads((FOLDER / "pillion.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
VARIABLES = (("__rate_interval", "5m"), ("handler", ".*"), ("coordinator", ".*"))


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def targets() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    yield from ((panel, target) for panel in panels() for target in panel["targets"])


@pytest.fixture(scope="module")
def checker() -> Checker:
    """Return what checks by a scrape of a coordinator, after tasks have run and died."""
    scraped = []

    async def body(asked: Asked) -> None:
        await asked.line.serve(total=2)
        await asked.line.submit(a_submission(1), a_submission(2), a_submission(3))
        grant = await asked.line.hear_only(m.Grant)
        one, other = grant.groups[0].tasks
        failure = m.Failure("ValueError", "no room")
        fatal = m.Outcome(one.id, one.token, m.OutcomeKind.FATAL, 2_000, failure)
        success = m.Outcome(other.id, other.token, m.OutcomeKind.SUCCESS, 2_000, None)
        await asked.line.say(m.Outcomes(1, [fatal, success]))
        await asked.line.hear_only(m.Recorded)
        scraped.append((await asked.get("/metrics")).text)

    asking(body)
    return Checker(exported(scraped[0]))


@pytest.mark.parametrize(
    ("panel", "target"), [pytest.param(*both, id=both[0]["title"]) for both in targets()]
)
def test_each_panel_asks_for_what_there_is(
    checker: Checker, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    labels = checker.check(placeholders(target["expr"], VARIABLES))
    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert shown <= labels
    assert panel["description"]


def test_each_variable_is_filled_from_what_there_is(checker: Checker) -> None:
    queries = [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert len(queries) == 2
    for query in queries:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert found is not None
        checker.label(*found.groups())


def test_dashboard_can_be_imported_and_provisioned() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] == "pillion"
    assert "__inputs" not in DASHBOARD
    sources = {json.dumps(target["datasource"]) for _, target in targets()}
    sources |= {json.dumps(panel["datasource"]) for panel in panels()}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_asks_for_what_there_is_and_says_what_to_do(
    checker: Checker, rule: dict[str, Any]
) -> None:
    labels = checker.check(rule["expr"])
    told = rule["annotations"]
    assert set(re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"])) <= labels
    assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert rule["labels"]["severity"] in ("warning", "critical")
    commands = re.findall(r'"pillion-coordinator ([^"]+)"', told["description"])
    assert commands
    for command in commands:
        _run_through(command.split())


def _run_through(words: list[str]) -> None:
    """Follow the words of a command to the last one that names it, and check its options."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        if not words and command.invoke_without_command:
            break
        assert words[0] in command.commands, words
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_what_is_not_exported_would_be_found(checker: Checker) -> None:
    with pytest.raises(Wrong, match="pillion_jobs is not exported"):
        checker.check("sum(pillion_jobs)")

"""One line for a monitoring system, and its exit code: 0 ok, 1 warning, 2 critical, 3 unknown."""

import json
from dataclasses import dataclass
from typing import Any

from coordinator.commands.api import Api, Refused, Unreachable
from coordinator.commands.output import age, say, tame

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is critical; None is not looked at."""

    oldest_ms: int | None = None
    dead: int | None = None
    sidecars: int | None = None
    backlog: int | None = None


def check(api: Api, thresholds: Thresholds, form: str) -> int:
    """Write the line, or an object, and return the exit code."""
    facts: dict[str, Any] = {}
    try:
        told = api.get("/v1/status")
    except Unreachable as error:
        level, findings = CRITICAL, [str(error)]
    except Refused as error:
        level, findings = UNKNOWN, [f"{error}; {error.hint}"]
    else:
        level, findings = judge(told, thresholds)
        facts = _facts(told)
    if form == "json":
        said = {"level": _WORDS[level].lower(), "exit_code": level, "findings": findings}
        say(json.dumps(said | {"figures": facts}) + "\n")
        return level
    figures = "".join([f" {name}={value}" for name, value in facts.items()])
    told_facts = f" |{figures}" if figures else ""
    say(f"PILLION {_WORDS[level]} - {'; '.join(findings) or 'all is well'}{told_facts}\n")
    return level


def judge(told: dict[str, Any], thresholds: Thresholds) -> tuple[int, list[str]]:
    """Return how bad it is, and what is."""
    findings = [tame(reason["text"]) for reason in told["reasons"]]
    level = ("ok", "warning", "critical").index(told["verdict"])
    oldest, tasks = told["oldest"], told["tasks"]
    over = []
    if thresholds.oldest_ms is not None and oldest and oldest["age_ms"] > thresholds.oldest_ms:
        over.append(f"the oldest of {oldest['handler']} has waited for {age(oldest['age_ms'])}")
    if thresholds.dead is not None and tasks["dead"] > thresholds.dead:
        over.append(f"{tasks['dead']} dead tasks")
    if thresholds.backlog is not None and tasks["ready"] > thresholds.backlog:
        over.append(f"{tasks['ready']} ready tasks")
    if thresholds.sidecars is not None and told["sidecars"]["ready"] < thresholds.sidecars:
        over.append(f"{told['sidecars']['ready']} sidecars are ready")
    return (CRITICAL if over else level), over + findings


def _facts(told: dict[str, Any]) -> dict[str, Any]:
    """Return the figures, as monitoring systems read them."""
    oldest_ms = told["oldest"]["age_ms"] if told["oldest"] else 0
    return {
        "ready": told["tasks"]["ready"],
        "dead": told["tasks"]["dead"],
        "oldest": f"{oldest_ms / 1000:g}s",
        "sidecars": told["sidecars"]["ready"],
    }

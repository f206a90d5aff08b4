"""``docs/protocol.md`` says what the code does: its tables and bytes are compared with it."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, ids, limits, local, options, records, submission
from protocol import messages as m
from protocol.errors import CODES
from protocol.fields import INT_MAX
from protocol.policy import _RANGES, Policy
from protocol.version import LOCAL_MAGIC, VERSION_MAX
from tests.protocol.examples import MESSAGES
from tests.support.builders import a_granted_task, a_submission, an_outcome, task_id

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", TEXT, re.M | re.S)
    assert found, f"no section is called {title}"
    return found[1]


def table(title: str, first: str) -> list[list[str]]:
    """Return the rows of the table in a section whose first column has this heading."""
    found = re.search(
        rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(title), re.M
    )
    assert found, f"{title} has no table of {first}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def names(kind: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(kind._fields)


def test_every_message_stands_with_its_number() -> None:
    documented = {int(number): name for number, name, *_ in table("The messages", "number")}
    assert documented == {
        number: kind.__name__.upper() for number, (kind, _) in codec._SPECS.items()
    }


@pytest.mark.parametrize("kind", [kind for kind in m.Message.__args__ if kind is not m.Inspect])
def test_message_has_its_fields_in_their_order(kind: type[Any]) -> None:
    documented = [row[0] for row in table(kind.__name__.upper(), "field")]
    _, spec = next(entry for entry in codec._SPECS.values() if entry[0] is kind)
    assert documented == [name for name, _ in spec] == names(kind)


RECORDS = [kind for kind in vars(records).values() if hasattr(kind, "_fields")]


@pytest.mark.parametrize("kind", RECORDS)
def test_record_has_its_fields_in_their_order(kind: type[Any]) -> None:
    assert [row[0] for row in table(kind.__name__, "field")] == names(kind)


@pytest.mark.parametrize(
    ("kind", "title", "first"),
    [(records.State, "Status", "state"), (records.OutcomeKind, "Outcome", "kind")],
)
def test_numbers_stand_with_their_names(kind: Any, title: str, first: str) -> None:
    documented = {int(row[0]): row[1] for row in table(title, first)}
    assert documented == {int(member): member.name for member in kind}


def test_every_error_code_stands_with_its_three_facts() -> None:
    answers = {True: "yes", False: "no"}
    assert table("Errors", "code") == [
        [
            f"`{code}`",
            facts.fault.value,
            answers[facts.retry],
            answers[facts.session_survives],
            facts.meaning,
        ]
        for code, facts in CODES.items()
    ]


def test_every_limit_stands_with_its_value() -> None:
    units = {"KIB", "MIB", "SECOND_MS", "DAY_MS"}
    documented = {row[0]: int(row[1]) for row in table("Limits", "name")}
    code = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert documented == {name: value for name, value in code.items() if name not in units}


def test_every_option_stands_with_its_range() -> None:
    documented = {row[0]: row[1] for row in table("Options", "option")}
    assert documented == {
        name: expected.expected
        if isinstance(expected, options.Form)
        else f"{expected[0]} to {expected[1]}"
        for name, expected in options.OPTIONS.items()
    }


def test_every_policy_field_stands_with_its_range_and_default() -> None:
    documented = [row[:3] for row in table("Policies", "field")]
    assert documented == [
        [name, f"{low} to {high}", str(getattr(Policy(), name))]
        for name, (low, high) in _RANGES.items()
    ]


def test_prose_names_the_version_the_magic_and_the_largest_integer() -> None:
    assert TEXT.startswith(f"# The Pillion protocol, version {VERSION_MAX}\n")
    assert f"`{LOCAL_MAGIC.hex(' ').upper()}`" in TEXT
    assert INT_MAX == 2**63 - 1
    assert "0 to 2^63-1" in section("Encoding")
    keyed = ids.to_text(ids.keyed_id("email.send", "order 42"))
    assert f"`email.send` and `order 42` always give\n`{keyed}`." in section("Task ids")


def test_links_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert links <= anchors


_BATCH = submission.encode_batch([a_submission(n, payload=b"{}") for n in (1, 2)])
_TOKEN = 2**32 + 1
_GRANTED = a_granted_task(token=_TOKEN, payload=b"{}")
_REJECTION = m.Rejection(1, "duplicate_id", "that id is another one")
BYTES = {
    "app-connects": LOCAL_MAGIC + local.frame(MESSAGES["attach-app"]),
    "sidecar-answers": local.frame(MESSAGES["attached"]),
    "app-submits": local.frame(m.Submit([m.Batch(9, _BATCH)])),
    "sidecar-accepts": local.frame(m.Accepted([m.Verdict(9, None, "", 0, [_REJECTION])])),
    "service-asks": local.frame(m.Demand([m.Limit("email.send", 2)])),
    "sidecar-hands-over": local.frame(m.Tasks([m.Group("email.send", [_GRANTED])])),
    "service-succeeds": local.frame(m.Outcomes(0, [an_outcome(token=_TOKEN)])),
    "coordinator-beats": codec.encode(MESSAGES["beat"]),
}
BLOCKS = dict(re.findall(r"^```bytes (\S+)\n(.*?)^```", TEXT, re.M | re.S))


@pytest.mark.parametrize("name", BYTES)
def test_bytes_are_those_of_the_codec(name: str) -> None:
    written = "".join(line.partition("#")[0] for line in BLOCKS[name].splitlines(keepends=True))
    assert bytes.fromhex(written).hex(" ") == BYTES[name].hex(" ")


def test_no_bytes_stand_untested() -> None:
    assert set(BLOCKS) == set(BYTES)
    assert task_id(1).hex(" ") in TEXT

"""Check PromQL against what was scraped: names, labels, types, and whether vectors can match.

Prometheus answers an expression that names what does not exist with nothing, and so does one whose
two sides have different labels: a dashboard shows "No data", an alert never fires. So each
expression gets the labels of its result here, and every step on the way must be able to match.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

TARGET = frozenset({"instance", "job"})
"""Labels that Prometheus adds to all that it scrapes."""
OPEN = frozenset({"handler", "service", "event", "le"}) | TARGET
"""Labels that may have any value; those of others are known."""
RATES = frozenset({"rate", "irate", "increase"})
_SETS = frozenset({"and", "or", "unless"})
_COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})


class Wrong(Exception):
    """Raised when an expression cannot do what it was written for."""


@dataclass
class Exported:
    """One name that can be selected."""

    counts: bool
    """Whether it only grows: it makes sense as a rate, and as nothing else."""
    labels: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=dict)


def exported(text: str) -> dict[str, Exported]:
    """Return what a scrape has exported, and what Prometheus adds."""
    found = {"up": Exported(counts=False)}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            one = found.setdefault(sample.name, Exported(family.type in ("counter", "histogram")))
            for label, value in sample.labels.items():
                one.labels.add(label)
                one.values.setdefault(label, set()).add(value)
    return found


class Checker:
    """Checks expressions against what is exported.

    Args:
        known: What may be selected, by name.
    """

    def __init__(self, known: dict[str, Exported]) -> None:
        self._known = known

    def check(self, text: str) -> frozenset[str]:
        """Return the labels of what an expression yields.

        Raises:
            Wrong: It does not parse, or cannot work.
        """
        try:
            parsed = promql.parse(text)
        except ValueError as error:
            raise Wrong(f"{text}: {error}") from None
        try:
            return self._labels(parsed) or frozenset()
        except Wrong as wrong:
            raise Wrong(f"{text}: {wrong}") from None

    def label(self, name: str, label: str) -> None:
        """Check that a name has a label."""
        self._has(name, label)

    def _labels(self, expr: Any) -> frozenset[str] | None:
        """Return the labels of a vector; None of a scalar."""
        match expr:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr():
                return self._labels(expr.expr)
            case promql.VectorSelector():
                return self._selected(expr, counts=False)
            case promql.Call():
                return self._called(expr.func.name, expr.args)
            case promql.AggregateExpr():
                return self._aggregated(expr)
            case promql.BinaryExpr():
                return self._combined(expr)
        raise Wrong(f"no rule for {type(expr).__name__}")

    def _selected(self, selector: promql.VectorSelector, *, counts: bool) -> frozenset[str]:
        name = selector.name or ""
        if name not in self._known:
            raise Wrong(f"{name} is not exported")
        found = self._known[name]
        if found.counts != counts:
            kind = "only grows: take its rate" if found.counts else "does not only grow"
            raise Wrong(f"{name} {kind}")
        for matcher in selector.matchers.matchers:
            self._has(name, matcher.name)
            if matcher.name in OPEN:
                continue
            unknown = set(matcher.value.split("|")) - found.values[matcher.name]
            if unknown:
                raise Wrong(f"{name} is exported with no {matcher.name} of {sorted(unknown)}")
        return frozenset(found.labels) | TARGET

    def _has(self, name: str, label: str) -> None:
        if name not in self._known:
            raise Wrong(f"{name} is not exported")
        if label not in self._known[name].labels | TARGET:
            raise Wrong(f"{name} has no label {label}")

    def _called(self, name: str, args: list[Any]) -> frozenset[str]:
        if name in RATES:
            return self._selected(args[0].vector_selector, counts=True)
        if name == "histogram_quantile":
            inner = self._labels(args[1]) or frozenset()
            if "le" not in inner:
                raise Wrong("histogram_quantile of what has no le")
            return inner - {"le"}
        if name == "vector":
            return frozenset()
        if name == "absent":
            self._labels(args[0])
            return frozenset()
        raise Wrong(f"no rule for {name}()")

    def _aggregated(self, expr: promql.AggregateExpr) -> frozenset[str]:
        inner = self._labels(expr.expr) or frozenset()
        if expr.modifier is None:
            return inner if str(expr.op) in ("topk", "bottomk") else frozenset()
        named = frozenset(expr.modifier.labels)
        if named - inner:
            raise Wrong(f"it aggregates by {sorted(named - inner)}, which is not there")
        is_by = expr.modifier.type == promql.AggModifierType.By
        return named if is_by else inner - named

    def _combined(self, expr: promql.BinaryExpr) -> frozenset[str] | None:
        left, right = self._labels(expr.lhs), self._labels(expr.rhs)
        if left is None or right is None:
            return right if left is None else left
        operator = str(expr.op)
        if operator == "or":
            return left & right
        on, ignored = _matching(expr.modifier)
        if (on | ignored) - (left | right) or on - (left & right):
            raise Wrong(f"{operator} matches by labels that are not there")
        one, other = (on, on) if on else (left - ignored, right - ignored)
        if one != other:
            raise Wrong(f"{operator} never matches: {sorted(one)} with {sorted(other)}")
        return left if operator in _SETS or (operator in _COMPARISONS and not ignored) else one


def _matching(modifier: promql.BinModifier | None) -> tuple[frozenset[str], frozenset[str]]:
    """Return the labels that must match, if they are named, and those that are ignored."""
    nothing: frozenset[str] = frozenset()
    if modifier is None or modifier.matching is None:
        return nothing, nothing
    labels = frozenset(modifier.matching.labels)
    if modifier.matching.type == promql.LabelModifierType.Include:
        return labels, nothing
    return nothing, labels


def placeholders(text: str, values: Iterable[tuple[str, str]]) -> str:
    """Put values for the variables of a dashboard."""
    for name, value in values:
        text = text.replace(f"${name}", value)
    return text

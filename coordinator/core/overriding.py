"""Take an operator's changes of a handler's policy, and take them back."""

from copy import copy
from dataclasses import astuple
from typing import Any

from coordinator.core import layout, records
from coordinator.core.effects import Now
from coordinator.core.handler import Handler
from coordinator.core.ledger import Ledger
from coordinator.core.operations import By, Done, Refusal, RevertPolicy, SetPolicy
from coordinator.core.overrides import Override, in_effect
from protocol.errors import InvalidField
from protocol.policy import Policy


class Overriding:
    """The changed policies of a shard."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def set(self, now: Now, wanted: SetPolicy) -> Done | Refusal:
        """Change fields; what is granted or settled from now on goes by them."""
        handler = self._ledger.handlers.get(wanted.handler)
        if handler is None:
            return self._unknown(wanted.handler)
        before = handler.policy
        by = wanted.by
        made = {
            name: Override(value, by.owner, by.reason, now.wall_ms)
            for name, value in wanted.changes.items()
        }
        overrides = handler.overrides | made
        try:
            handler.declared.with_changes(
                {name: override.value for name, override in overrides.items()}
            )
        except InvalidField as error:
            return Refusal("invalid_policy", error.detail)
        if wanted.dry_run:
            return Done(_with(copy(handler), overrides))
        changed = {name: [getattr(before, name), override.value] for name, override in made.items()}
        self._put(handler, overrides)
        self._tell(now, "policy.set", handler, by, changed)
        return Done(handler)

    def revert(self, now: Now, wanted: RevertPolicy) -> Done | Refusal:
        """Take changes back."""
        handler = self._ledger.handlers.get(wanted.handler)
        if handler is None:
            return self._unknown(wanted.handler)
        unknown = [name for name in wanted.fields if name not in Policy.__slots__]
        if unknown:
            known = ", ".join(Policy.__slots__)
            return Refusal("invalid_policy", f"policy has no field {unknown[0]!r}; known: {known}")
        fields = wanted.fields or tuple(handler.overrides)
        absent = [name for name in fields if name not in handler.overrides]
        if absent or not fields:
            what = f"{', '.join(absent)} of {handler.name}" if absent else handler.name
            return Refusal("unknown_override", f"no operator has changed the policy: {what}")
        left = {name: kept for name, kept in handler.overrides.items() if name not in fields}
        if wanted.dry_run:
            return Done(_with(copy(handler), left))
        before = handler.policy
        self._put(handler, left)
        changed = {name: [getattr(before, name), getattr(handler.policy, name)] for name in fields}
        self._tell(now, "policy.revert", handler, wanted.by, changed)
        return Done(handler)

    def _unknown(self, name: str) -> Refusal:
        detail = f"no task of {name!r} was submitted, and nobody serves it"
        return Refusal("unknown_handler", detail)

    def _put(self, handler: Handler, overrides: dict[str, Override]) -> None:
        ledger = self._ledger
        _with(handler, overrides)
        key = layout.override_key(handler.number)
        fields = [[name, *astuple(override)] for name, override in sorted(overrides.items())]
        ledger.effects.writes[key] = records.encode_list(key, fields) if fields else None
        ledger.touch(handler)

    def _tell(
        self, now: Now, action: str, handler: Handler, by: By, changed: dict[str, list[int]]
    ) -> None:
        ledger = self._ledger
        ledger.record(now, by, action, handler.name, {"changed": changed})
        ledger.note(action.replace(".", "_"), handler=handler.name, owner=by.owner, **changed)


def _with(handler: Handler, overrides: dict[str, Override]) -> Handler:
    handler.overrides = overrides
    handler.policy = in_effect(handler.declared, overrides)
    return handler


def overrides_of(fields: list[list[Any]]) -> dict[str, Override]:
    """Return the changes in a row of the store."""
    return {name: Override(*rest) for name, *rest in fields}

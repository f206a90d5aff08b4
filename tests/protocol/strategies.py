"""Hypothesis strategies for every message: any value that its checks allow."""

from typing import Any

from hypothesis import strategies as st

from protocol import fields, limits
from protocol import messages as m

Strategy = st.SearchStrategy[Any]

integers = st.integers(0, fields.INT_MAX)
ids = st.binary(min_size=16, max_size=16)
names = st.text("abcxyz0189._-", min_size=1, max_size=64)
plain = st.characters(exclude_categories=["Cs"])
labels = st.text(plain, max_size=limits.ERROR_TYPE_CHARS_MAX)
reasons = st.text(plain, max_size=limits.REASON_CHARS_MAX)
texts = st.text(plain, max_size=300)
binaries = st.binary(max_size=300)
maybe_label = st.none() | labels


def lists(items: Strategy) -> Strategy:
    return st.lists(items, max_size=4)


leases = lists(st.builds(m.Lease, ids, integers))
demands = lists(st.builds(m.Limit, names, integers))
policies = st.dictionaries(labels, integers, max_size=4)
declarations = lists(st.builds(m.Declaration, names, policies))
meta = st.dictionaries(names, st.text("xyz äß=;,", max_size=9), max_size=4)
checkpoints = st.binary(max_size=300)
permille = st.integers(-1, 1000)
notes = st.text(plain, max_size=limits.NOTE_CHARS_MAX)
facts = st.dictionaries(labels, integers | texts, max_size=4)
results = st.builds(m.Result, maybe_label, binaries)
failures = st.builds(
    m.Failure, labels, texts, texts, st.none() | st.integers(0, limits.DELAY_MS_MAX)
)
_TYPED = ("checkpoint", "meta")
extras = st.builds(
    lambda some, more: {k: v for k, v in some.items() if k not in _TYPED} | more,
    facts,
    st.fixed_dictionaries({}, optional={"checkpoint": checkpoints, "meta": meta}),
)
granted = st.builds(
    m.GrantedTask,
    *[ids, integers, integers, integers, integers, integers, integers, integers],
    *[maybe_label, binaries, st.none() | extras],
)
groups = lists(st.builds(m.Group, names, lists(granted)))
successes = st.builds(
    m.Outcome, ids, integers, st.just(m.OutcomeKind.SUCCESS), integers, st.none() | results
)
others = st.builds(
    m.Outcome,
    ids,
    integers,
    st.sampled_from(list(m.OutcomeKind)[1:]),
    integers,
    st.none() | failures,
)
rejections = lists(st.builds(m.Rejection, integers, labels, texts))
verdicts = lists(
    st.builds(m.Verdict, integers, maybe_label, texts, integers, rejections, lists(integers))
)
attempts = st.builds(
    m.AttemptRecord, integers, integers, integers, integers, labels, labels, texts, texts
)
statuses = st.builds(
    m.Status,
    *[ids, names, st.sampled_from(m.State), integers, st.none() | names],
    *[integers] * 7,
    *[labels, integers, st.none() | results, texts, lists(attempts)],
    *[permille, notes, st.none() | checkpoints, st.booleans(), integers],
)
replies = lists(st.builds(m.Reply, integers, maybe_label, st.none() | statuses))

MESSAGES: dict[type[Any], Strategy] = {
    m.Hello: st.builds(
        m.Hello,
        *[integers, integers, labels, ids, names, labels, st.none() | ids],
        *[integers, integers, leases],
    ),
    m.Handlers: st.builds(m.Handlers, declarations),
    m.Demand: st.builds(m.Demand, demands),
    m.Heartbeat: st.builds(
        m.Heartbeat, integers, demands, lists(st.builds(m.Running, ids, integers, integers))
    ),
    m.Welcome: st.builds(
        m.Welcome,
        *[integers, integers, st.booleans(), integers, ids, integers, leases, labels],
    ),
    m.Grant: st.builds(m.Grant, integers, integers, groups),
    m.Recorded: st.builds(m.Recorded, integers, lists(st.builds(m.Unrecorded, integers, labels))),
    m.Beat: st.builds(m.Beat, integers, integers, integers),
    m.Drain: st.builds(m.Drain, integers, st.booleans(), texts),
    m.Attach: st.builds(
        m.Attach, integers, integers, st.just("") | names, labels, declarations, demands
    ),
    m.Attached: st.builds(m.Attached, integers, labels, integers),
    m.Tasks: st.builds(m.Tasks, groups),
    m.Recall: st.builds(m.Recall, leases),
    m.Validity: st.builds(m.Validity, integers),
    m.Inspect: st.builds(m.Inspect),
    m.Inspected: st.builds(m.Inspected, facts),
    m.Submit: st.builds(m.Submit, lists(st.builds(m.Batch, integers, binaries))),
    m.Accepted: st.builds(m.Accepted, verdicts),
    m.Outcomes: st.builds(m.Outcomes, integers, lists(successes | others)),
    m.Query: st.builds(
        m.Query,
        lists(st.builds(m.Question, integers, ids, integers, st.integers(-1, fields.INT_MAX))),
    ),
    m.Cancel: st.builds(m.Cancel, lists(st.builds(m.Cancellation, integers, ids, reasons))),
    m.Progress: st.builds(
        m.Progress,
        lists(st.builds(m.Update, ids, integers, permille, notes, st.none() | checkpoints)),
    ),
    m.Answer: st.builds(m.Answer, replies),
    m.Revoke: st.builds(m.Revoke, lists(st.builds(m.Revoked, ids, integers, labels))),
    m.Refused: st.builds(m.Refused, labels, texts, integers),
    m.Goodbye: st.builds(m.Goodbye, labels),
}

messages = st.one_of(*MESSAGES.values())

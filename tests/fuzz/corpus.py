"""Frames that are right: one of each message, and those of a short life of two real cores."""

import random

from protocol import codec
from protocol import messages as m
from protocol.submission import encode_batch
from sidecar.core import events as e
from tests.fuzz.mutate import Template
from tests.fuzz.world import ShardBench, SidecarBench
from tests.protocol.examples import MESSAGES
from tests.protocol.golden import FOLDER
from tests.support.builders import a_submission, an_attach

HANDLER = "email.send"
BATCHES = ("batch",)
PEER = b"sidecar"
TRAFFIC_ROUNDS = 40
TASKS = 6


def golden() -> list[Template]:
    """Return one frame of each message, with every field away from its default."""
    return [Template((FOLDER / f"{name}.bin").read_bytes()) for name in MESSAGES]


def golden_batches() -> list[Template]:
    """Return batches of tasks."""
    return [Template((FOLDER / f"{name}.bin").read_bytes()) for name in BATCHES]


def traffic(seed: int = 1) -> list[Template]:
    """Return what a real shard, a real sidecar and its service say to each other."""
    rng = random.Random(seed)
    shard, sidecar = ShardBench(), SidecarBench()
    frames: dict[bytes, None] = {}

    def keep(message: m.Message) -> m.Message:
        frames[codec.encode(message)] = None
        return message

    connection = sidecar.open()
    attach = an_attach(
        service="email",
        declarations=[m.Declaration(HANDLER, {"attempts_max": 2})],
        slots=[m.Limit(HANDLER, 4)],
    )
    submissions = [a_submission(n, payload=b"x" * rng.choice((2, 50))) for n in range(TASKS)]
    submit = m.Submit([m.Batch(1, encode_batch(submissions))])
    sidecar.step(e.LinkUp())
    first: list[m.Message] = [attach, m.Demand([m.Limit(HANDLER, 100)]), submit]
    for message in first:
        sidecar.step(e.FromLocal(connection, keep(message)))
    for _ in range(TRAFFIC_ROUNDS):
        sidecar.settle()
        for message in sidecar.said():
            shard.receive(PEER, keep(message))
        shard.settle()
        for message in shard.take(PEER):
            sidecar.step(e.FromCoordinator(keep(message)))
        sidecar.settle()
        outcomes: list[m.Outcome] = []
        for message in sidecar.told(connection):
            keep(message)
            if isinstance(message, m.Tasks):
                outcomes += [_outcome(rng, t) for g in message.groups for t in g.tasks]
        if outcomes:
            sidecar.step(e.FromLocal(connection, keep(m.Outcomes(0, outcomes))))
        question = m.Question(1, rng.choice(submissions).id, rng.choice((0, 1_000)))
        sidecar.step(e.FromLocal(connection, keep(m.Query([question]))))
        ms = rng.choice((1, 500, 2_500))
        sidecar.advance(ms)
        shard.advance(ms)
    return [Template(data) for data in frames]


def _outcome(rng: random.Random, task: m.GrantedTask) -> m.Outcome:
    kind = rng.choice(list(m.OutcomeKind))
    value: m.Result | m.Failure | None = m.Failure("ValueError", "no", "Traceback ...", 10)
    if kind is m.OutcomeKind.SUCCESS:
        value = rng.choice((None, m.Result(None, b"{}")))
    return m.Outcome(task.id, task.token, kind, rng.randrange(10**6), value)

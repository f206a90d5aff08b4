"""A bench that knows what was promised, and checks every commit and every message against it."""

from typing import Any

from coordinator.core.effects import Effects, Outgoing
from coordinator.core.task import Task
from protocol.messages import (
    Accepted,
    Answer,
    Grant,
    GrantedTask,
    Outcome,
    OutcomeKind,
    Recorded,
    State,
    Verdict,
)
from protocol.messages import Submission as Submitted
from tests.coordinator.core.audit import Audit
from tests.coordinator.core.bench import Bench
from tests.coordinator.core.peer import Peer

End = tuple[Any, ...]


class Watch(Bench):
    """A bench on which nothing that was promised may be broken.

    Args:
        peers: All sidecars there are.
        policies: The policy of each handler that the model uses.
    """

    def __init__(self, peers: list[Peer], policies: dict[str, dict[str, int]], **config: Any):
        self.peers = peers
        self.policies = policies
        self.wall_ms_max = 0
        self.asked: dict[tuple[int, int], list[Submitted]] = {}
        """What each request of each sidecar submits."""
        self.accepted: dict[bytes, Submitted] = {}
        """Every task that was acknowledged."""
        self.ends: dict[bytes, End] = {}
        """How each task ended, from the first commit that said so."""
        self.cancelled: set[bytes] = set()
        """Every task of which somebody was told that it is cancelled, or will be."""
        self.removed: set[bytes] = set()
        self.reborn: set[bytes] = set()
        self.requeues: dict[bytes, int] = {}
        """How often each task was requeued that ever was."""
        self.purges: set[bytes] = set()
        """Tasks that somebody has asked to be purged."""
        self.tokens: dict[bytes, int] = {}
        """The latest token of each task that left in a grant."""
        self.seen = Audit({})
        super().__init__(**config)

    def _commit(self, effects: Effects) -> None:
        before = self.seen
        super()._commit(effects)
        self.wall_ms_max = max(self.wall_ms_max, self.now.wall_ms)
        self.seen = self.audit()
        self._check_ends()
        self._check_bounds()
        self._check_gates(effects, before)
        for task_id in self.accepted:
            assert task_id in self.seen.tasks or task_id in self.ends, "an accepted task is lost"

    def _check_gates(self, effects: Effects, before: Audit) -> None:
        for outgoing in effects.messages:
            if isinstance(outgoing.message, Grant):
                for granted in [task for _, tasks in outgoing.message.groups for task in tasks]:
                    gates = self.seen.gates_on(self.seen.tasks[granted.id])
                    assert not gates, "a task is granted that a gate holds"
        for task_id, task in self.seen.tasks.items():
            was = before.tasks.get(task_id)
            if task.state is State.DROPPED and (was is None or was.state is not State.DROPPED):
                gates = self.seen.gates_on(task) | before.gates_on(task)
                assert "drop" in gates, "a task is dropped that no gate drops"

    def _check_ends(self) -> None:
        for task_id, task in self.seen.tasks.items():
            if task_id in self.removed:
                self._forget(task_id)
            self._see_requeues(task)
            if task_id in self.cancelled and task.state.terminal:
                assert task.state in (State.CANCELLED, State.SUCCEEDED), "it was to be cancelled"
            if task_id in self.ends:
                assert end_of(task) == self.ends[task_id], "an end has changed"
            elif task.state.terminal:
                self.ends[task_id] = end_of(task)
        for task_id, end in self.ends.items():
            if task_id not in self.seen.tasks and task_id not in self.removed:
                self.removed.add(task_id)
                if task_id in self.purges and end[0] is State.DEAD:
                    continue
                kept_ms = self.wall_ms_max - end[-1]
                assert kept_ms >= self.config["retention_succeeded_ms"], "removed too early"

    def _see_requeues(self, task: Task) -> None:
        """Take back the end of a task that was dead and begins anew."""
        times = sum(entry.error_type == "requeued" for entry in task.history)
        if times > self.requeues.get(task.id, 0):
            # Whether it was dead before can be told only if that was in another commit.
            assert self.ends.get(task.id, (State.DEAD,))[0] is State.DEAD, (
                "only the dead begin anew"
            )
            self.requeues[task.id] = times
            self.ends.pop(task.id, None)

    def _forget(self, task_id: bytes) -> None:
        """Begin another life of an id: a submission was still under way when the first ended."""
        self.removed.discard(task_id)
        self.reborn.add(task_id)
        del self.ends[task_id]
        self.tokens.pop(task_id, None)
        self.requeues.pop(task_id, None)
        self.accepted.pop(task_id, None)
        self.cancelled.discard(task_id)
        for peer in self.peers:
            peer.finished = [outcome for outcome in peer.finished if outcome.id != task_id]

    def _check_bounds(self) -> None:
        for task in self.seen.tasks.values():
            assert task.attempts <= self.attempts_max(task), "too many attempts"
        leases: dict[str, int] = {}
        for task_id, _ in self.seen.leases:
            name = self.seen.tasks[task_id].handler.name
            leases[name] = leases.get(name, 0) + 1
        for name, count in leases.items():
            limit = self.policies[name].get("concurrency", 0)
            assert not limit or count <= limit, "more leases than the handler allows"

    def attempts_max(self, task: Task) -> int:
        """Return how many attempts a task may have."""
        return task.option("attempts_max", self.policies[task.handler.name]["attempts_max"])

    def leave(self, outgoing: Outgoing) -> None:
        """Check what leaves, and put it into the inbox of whom it is for."""
        peer = next((p for p in self.peers if p.routing_id == outgoing.peer), None)
        match outgoing.message:
            case Grant(_, _, groups):
                for granted in [task for _, tasks in groups for task in tasks]:
                    self._check_grant(granted)
            case Accepted(verdicts) if peer is not None:
                for verdict in verdicts:
                    self._check_verdict(verdict, self.asked[peer.number, verdict.request])
            case Recorded(number, exceptions) if peer is not None:
                refused = {place for place, _ in exceptions}
                for place, outcome in enumerate(peer.unrecorded.get(number, [])):
                    if place not in refused:
                        self._check_recorded(outcome)
            case Answer(replies):
                for status in [reply.status for reply in replies if reply.status is not None]:
                    if status.state.terminal and status.id not in self.requeues:
                        assert self.ends[status.id][0] == status.state, "an answer from nowhere"
                    elif status.cancelling and status.id not in self.ends:
                        assert self.seen.tasks[status.id].cancelling, "an answer from nowhere"
                        self.cancelled.add(status.id)
        if peer is not None:
            peer.inbox.append(outgoing.message)

    def _check_verdict(self, verdict: Verdict, submitted: list[Submitted]) -> None:
        rejected = {rejection.place for rejection in verdict.rejections}
        for place, task in enumerate(submitted):
            if verdict.code is None and place not in rejected:
                self._check_accepted(task)

    def _check_grant(self, task: GrantedTask) -> None:
        assert task.token > self.tokens.get(task.id, 0), "a token that does not grow"
        self.tokens[task.id] = task.token
        assert task.id not in self.ends, "a task that has ended runs again"
        assert task.id not in self.cancelled, "a task that was cancelled runs again"
        assert (task.id, task.token) in self.seen.leases, "a grant without a lease"
        record = self.seen.tasks[task.id]
        assert task.attempt == record.attempts + 1 <= self.attempts_max(record)
        checkpoint = None if record.told is None else record.told.checkpoint
        assert (task.extras or {}).get("checkpoint") == checkpoint, "not what was saved"
        assert task.payload == self.accepted.get(task.id, task).payload, "not what was submitted"
        for peer in self.peers:
            assert not peer.believes_in(task.id, task.token), "two attempts at once"

    def _check_accepted(self, task: Submitted) -> None:
        if task.id not in self.ends:
            assert task.id in self.seen.tasks, "accepted, but not stored"
        assert self.accepted.setdefault(task.id, task).payload == task.payload, "replaced"

    def _check_recorded(self, outcome: Outcome) -> None:
        if outcome.id in self.reborn or outcome.id in self.requeues:
            return  # It may be of the former life.
        if outcome.kind is OutcomeKind.SUCCESS:
            assert self.ends[outcome.id][0] is State.SUCCEEDED, "recorded, but not stored"
        elif outcome.kind is OutcomeKind.FATAL:
            assert outcome.id in self.ends, "recorded, but not stored"
        elif outcome.id in self.seen.tasks:
            assert self.seen.tasks[outcome.id].token >= outcome.token, "recorded, but not stored"


def end_of(task: Task) -> End:
    """Return everything about an end that may never change; its time is the last."""
    return task.state, task.result, task.error, task.attempts, task.finished_ms

"""Answer what is asked about single tasks: now, at their next change, or at their end."""

from hashlib import blake2b
from typing import Any

from coordinator.core.effects import GetMany, Now
from coordinator.core.layout import task_key
from coordinator.core.ledger import Ledger
from coordinator.core.sessions import Session
from coordinator.core.task import UNTOLD, Task, Told
from coordinator.core.waits import Wait
from protocol.errors import Code
from protocol.limits import BATCH_BYTES_MAX, WAIT_MS_MAX
from protocol.messages import Answer, Question, Reply, State, Status


def status_of(task: Task, now: Now) -> Status:
    """Return a task as an observer sees it."""
    state = task.state
    if state is State.LEASED and task.running_since_ms:
        state = State.RUNNING
    elif state is State.SCHEDULED and task.due_ms <= now.wall_ms:
        state = State.READY
    told = task.told or UNTOLD
    return Status(
        id=task.id,
        handler=task.handler.name,
        state=state,
        priority=task.priority,
        collection=task.collection,
        submitted_ms=task.submitted_ms,
        due_ms=task.due_ms,
        expires_ms=task.expires_ms,
        finished_ms=task.finished_ms,
        attempts=task.attempts,
        attempts_max=task.option("attempts_max", task.handler.policy.attempts_max),
        deliveries=task.deliveries,
        sidecar="" if task.session is None else task.session.sidecar,
        sidecars=len(task.handler.sessions),
        result=task.result,
        error=task.error,
        history=task.history,
        progress=told.progress,
        note=told.note,
        checkpoint=told.checkpoint,
        cancelling=told.cancelled is not None,
        revision=revision_of(task, state, told),
    )


def revision_of(task: Task, state: State, told: Told) -> int:
    """Return a number of 49 bits that is another one whenever an observer sees anything else.

    It is made of what is seen, so that no task pays for it that nobody looks at, and it is the same
    after a restart. What has ended does not change any more.
    """
    if state.terminal:
        return task.finished_ms
    seen = (
        *(state, task.due_ms, task.attempts, task.deliveries, task.deferrals, task.token),
        *(task.session and task.session.sidecar, len(task.history)),
        *(told.progress, told.note, told.checkpoint, told.cancelled),
    )
    digest = blake2b(repr(seen).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") | 1 << 48


class Queries:
    """The questions of all sessions."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._replies: dict[Session, list[Reply]] = {}

    def ask(self, now: Now, session: Session, questions: list[Question]) -> None:
        """Answer questions, or keep them until their tasks end."""
        ledger = self._ledger
        unknown: list[Question] = []
        for question in questions:
            task = ledger.leased.get(question.id) or ledger.waiting.get(question.id)
            if task is not None and question.wait_ms and question.revision >= 0:
                status = status_of(task, now)
                if status.revision != question.revision:
                    self.reply(session, Reply(question.request, None, status))
                    continue
            if question.wait_ms and not self._wait(now, session, question):
                ledger.count(Code.TOO_MANY_WAITERS)
                self.reply(session, Reply(question.request, Code.TOO_MANY_WAITERS, None))
                continue
            if task is None:
                unknown.append(question)
            elif not question.wait_ms:
                self.reply(session, Reply(question.request, None, status_of(task, now)))
        if unknown:
            self._look_up(session, unknown, keep_waiting=True)

    def _wait(self, now: Now, session: Session, question: Question) -> bool:
        deadline = now.ms + min(question.wait_ms, WAIT_MS_MAX)
        wait = Wait(session, question.request, deadline, question.revision)
        return self._ledger.waits.add(question.id, wait)

    def _look_up(self, session: Session, questions: list[Question], *, keep_waiting: bool) -> None:
        def then(now: Now, found: dict[bytes, bytes], _: Any) -> None:
            for question in questions:
                self._answer_from_store(now, session, question, found, keep_waiting=keep_waiting)

        keys = [task_key(question.id) for question in questions]
        self._ledger.ask(GetMany(keys), then, watch=False)

    def _answer_from_store(
        self,
        now: Now,
        session: Session,
        question: Question,
        found: dict[bytes, bytes],
        *,
        keep_waiting: bool,
    ) -> None:
        ledger = self._ledger
        record = found.get(task_key(question.id))
        task = None if record is None else ledger.read_record(question.id, record)
        # Memory is ahead of the record that was read.
        task = ledger.leased.get(question.id) or ledger.waiting.get(question.id) or task
        if question.wait_ms and keep_waiting:
            if task is None or task.state.terminal:
                # Everyone who waits for it gets this answer; later look-ups find nobody.
                code = Code.UNKNOWN_TASK if task is None else None
                status = None if task is None else status_of(task, now)
                for wait in ledger.waits.take(question.id):
                    self.reply(wait.session, Reply(wait.request, code, status))
            else:
                self.changed(now, task)
            return
        if task is None:
            self.reply(session, Reply(question.request, Code.UNKNOWN_TASK, None))
        else:
            self.reply(session, Reply(question.request, None, status_of(task, now)))

    def ended(self, now: Now, task: Task) -> None:
        """Answer everyone who waits for a task that has just ended."""
        status = status_of(task, now)
        for wait in self._ledger.waits.take(task.id):
            self.reply(wait.session, Reply(wait.request, None, status))

    def changed(self, now: Now, task: Task) -> None:
        """Answer everyone who waits for another revision of a task than it has now."""
        if task.id not in self._ledger.waits.watched:
            return
        status = status_of(task, now)
        for wait in self._ledger.waits.take_changed(task.id, status.revision):
            self.reply(wait.session, Reply(wait.request, None, status))

    def overdue(self, now: Now) -> None:
        """Answer the waits that have run out with the state their task is in."""
        for task_id, wait in self._ledger.waits.take_overdue(now.ms):
            question = Question(wait.request, task_id, 0)
            task = self._ledger.leased.get(task_id) or self._ledger.waiting.get(task_id)
            if task is None:
                self._look_up(wait.session, [question], keep_waiting=False)
            else:
                self.reply(wait.session, Reply(wait.request, None, status_of(task, now)))

    def reply(self, session: Session, reply: Reply) -> None:
        """Reply with the next flush."""
        self._replies.setdefault(session, []).append(reply)

    def flush(self) -> None:
        """Send the replies of this flush, a session's together."""
        for session, replies in self._replies.items():
            start = size = 0
            for i, reply in enumerate(replies):
                reply_bytes = _bytes_of(reply)
                if size + reply_bytes > BATCH_BYTES_MAX and i > start:
                    self._ledger.send(session.peer, Answer(replies[start:i]))
                    start, size = i, 0
                size += reply_bytes
            self._ledger.send(session.peer, Answer(replies[start:]))
        self._replies.clear()


def _bytes_of(reply: Reply) -> int:
    """Return about how large a reply is, rather too much than too little."""
    if reply.status is None:
        return 32
    result = 0 if reply.status.result is None else len(reply.status.result.body)
    checkpoint = 0 if reply.status.checkpoint is None else len(reply.status.checkpoint)
    texts = len(reply.status.note)
    texts += sum(len(a.message) + len(a.detail) for a in reply.status.history)
    return 512 + result + checkpoint + 256 * len(reply.status.history) + 4 * texts

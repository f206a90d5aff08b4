"""When processes of the service are started, replaced and ended; decided without touching one.

Each place of the fleet has one process. While it is replaced there are two: the old one goes on
until the new one serves.

    start due --> STARTING --serves--> SERVING --told to end--> LEAVING --kill due--> KILLED
                      +-----------------------told to end----------^
    from each of them --ended--> gone; its place starts another: the first time at once, because
    attempts wait for it, and after a backoff when lives were short again and again

Whether it is told to end because it is replaced, because an attempt in it does not stop, or because
the sidecar ends: it is asked first, and killed with its whole group when its grace is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from sidecar.core.events import Finished, Note, OfProcess, Serving, Stuck
from sidecar.core.terms import NEVER_MS

BACKOFF_MS_MIN = 100
"""The wait after the second short life in a row; there is none after the first."""
BACKOFF_MS_MAX = 30_000
STEADY_MS = 10_000
"""A process that lived so long was a success: the backoff begins anew after it."""
FAILURES_SAID = 3
"""From so many short lives in a row on, it is said loudly that the service does not run."""
WEIGH_MS = 5_000
"""How often memory is looked at, where it matters."""
SERVING_MS_MAX = 30_000
"""A process that does not serve by then is worth a warning; it may need longer."""
KILLED_MS_MAX = 10_000
"""How often it is said that a killed process is still there, and killed again."""


class State(IntEnum):
    """How a process stands; see the drawing above."""

    STARTING = 0
    SERVING = 1
    LEAVING = 2
    KILLED = 3


@dataclass(frozen=True, slots=True)
class FleetTerms:
    """How many processes, and when they are replaced; None is never."""

    processes: int = 1
    kill_grace_ms: int = 5_000
    """How long a process that must end has after SIGTERM."""
    recycle_grace_ms: int = 60_000
    """How long one that is replaced has: its attempts may finish."""
    recycle_tasks: int | None = None
    recycle_age_ms: int | None = None
    recycle_memory_bytes: int | None = None


@dataclass(slots=True)
class FleetEffects:
    """What the shell shall do now, in the order of these fields; processes by number."""

    notes: list[Note] = field(default_factory=list)
    kill: list[int] = field(default_factory=list)
    terminate: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    weigh: list[int] = field(default_factory=list)
    """Whose memory to measure."""

    def __bool__(self) -> bool:
        return bool(self.notes or self.kill or self.terminate or self.start or self.weigh)


@dataclass(slots=True)
class _Place:
    """One of the processes that there shall be.

    Invariant: ``following`` is there only beside ``current``.
    """

    current: "_Member | None" = None
    following: "_Member | None" = None
    """What replaces ``current`` once it serves."""
    start_ms: int = NEVER_MS
    """When the next is to be started, for whichever of the two."""
    failures: int = 0
    """Lives in a row that were too short."""
    starts: int = 0
    last_end: str = ""
    """Why the latest process that ended here did."""


@dataclass(slots=True)
class _Member:
    """One process."""

    number: int
    place: _Place
    began_ms: int
    state: State = State.STARTING
    due_ms: int = NEVER_MS
    """When something is to be said or done about it; what depends on the state."""
    why: str = ""
    """Why it was told to end."""
    worn: str = ""
    """Why it is to be replaced."""
    tasks: int = 0
    memory_bytes: int = 0


class Fleet:
    """All processes of the service, by numbers that are never used twice."""

    def __init__(self, terms: FleetTerms) -> None:
        self._terms = terms
        self._places = [_Place() for _ in range(terms.processes)]
        self._members: dict[int, _Member] = {}
        self._number = 0
        self._taking = False
        self._weigh_ms = NEVER_MS
        self._effects = FleetEffects()

    @property
    def empty(self) -> bool:
        """Whether no process is left."""
        return not self._members

    def state(self, process: int) -> State | None:
        """Return how a process stands; None if it is gone."""
        member = self._members.get(process)
        return None if member is None else member.state

    def why(self, process: int) -> str:
        """Return why a process was told to end; empty if it was not."""
        member = self._members.get(process)
        return "" if member is None else member.why

    # --- Beginning and end of the fleet --------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """Have all processes started."""
        self._taking = True
        for place in self._places:
            place.start_ms = now_ms
        if self._terms.recycle_memory_bytes is not None:
            self._weigh_ms = now_ms + WEIGH_MS

    def drain(self) -> None:
        """Start none any more; those that are there go on."""
        self._taking = False
        self._weigh_ms = NEVER_MS
        for place in self._places:
            place.start_ms = NEVER_MS

    def stop(self, now_ms: int) -> None:
        """Have all processes end."""
        self.drain()
        for member in self._members.values():
            self._leave(now_ms, member, "the sidecar stops", self._terms.kill_grace_ms)

    def kill(self, now_ms: int) -> None:
        """Have all processes killed."""
        self.drain()
        for member in self._members.values():
            self._kill(now_ms, member, "the sidecar stops at once")

    # --- What is told of processes -------------------------------------------------------------

    def step(self, now_ms: int, event: OfProcess) -> None:
        """Take what the sidecar's core tells of a process."""
        member = self._members.get(event.process)
        if member is None:
            return
        match event:
            case Serving():
                self._serves(now_ms, member)
            case Finished(_, count):
                member.tasks += count
            case Stuck(_, at_once, why):
                if at_once:
                    self._kill(now_ms, member, why)
                else:
                    self._leave(now_ms, member, why, self._terms.kill_grace_ms)

    def weighed(self, process: int, memory_bytes: int) -> None:
        """Take how much memory a process uses."""
        if process in self._members:
            self._members[process].memory_bytes = memory_bytes

    def ended(self, now_ms: int, process: int, facts: dict[str, int | str]) -> None:
        """Take the end of a process; ``facts`` tell how, for the log."""
        member = self._members.pop(process)
        place = member.place
        facts = {"process": process, **facts, "lived_ms": now_ms - member.began_ms}
        place.last_end = str(facts["cause"])
        if member.why:
            facts["told_to_end"] = member.why
            place.last_end += f"; it was told to end: {member.why}"
        again = self._missed(place, member) and self._taking
        if again:
            facts |= self._start_again(now_ms, place, now_ms - member.began_ms)
        died = self._taking and not member.why
        self._note("process_died" if died else "process_ended", facts)
        if again and place.failures >= FAILURES_SAID:
            detail = "the service does not stay up; its own output tells more"
            self._note("process_keeps_ending", {"times": place.failures, "detail": detail})

    def _missed(self, place: _Place, member: _Member) -> bool:
        """Take a member out of its place; return whether another is to be started."""
        if place.following is member:
            place.following = None
        elif place.current is member:
            place.current, place.following = place.following, None
            return place.current is None
        else:
            return False
        return True

    def _start_again(self, now_ms: int, place: _Place, lived_ms: int) -> dict[str, int | str]:
        if lived_ms >= STEADY_MS:
            place.failures = 0
        wait_ms = 0
        if place.failures:
            wait_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(place.failures - 1, 16))
        place.failures += 1
        place.start_ms = now_ms + wait_ms
        return {"next_start_in_ms": wait_ms}

    def _serves(self, now_ms: int, member: _Member) -> None:
        if member.state is not State.STARTING:
            return
        member.state = State.SERVING
        member.due_ms = NEVER_MS
        place = member.place
        if place.following is member and place.current is not None:
            old = place.current
            place.current, place.following = member, None
            self._leave(now_ms, old, old.worn, self._terms.recycle_grace_ms)

    # --- Ending processes ----------------------------------------------------------------------

    def _leave(self, now_ms: int, member: _Member, why: str, grace_ms: int) -> None:
        """Ask a process to end; one that was asked before may get less time, never more."""
        if member.state is State.KILLED:
            return
        if member.state is State.LEAVING:
            member.due_ms = min(member.due_ms, now_ms + grace_ms)
            return
        member.state = State.LEAVING
        member.due_ms = now_ms + grace_ms
        member.why = why
        self._effects.terminate.append(member.number)
        self._note("process_told_to_end", {"process": member.number, "why": why})

    def _kill(self, now_ms: int, member: _Member, why: str) -> None:
        if member.state is not State.KILLED:
            member.why = member.why or why
            self._note("process_killed", {"process": member.number, "why": member.why})
        member.state = State.KILLED
        member.due_ms = now_ms + KILLED_MS_MAX
        self._effects.kill.append(member.number)

    # --- Time ----------------------------------------------------------------------------------

    def flush(self, now_ms: int) -> FleetEffects:
        """Return what is to be done now."""
        for member in self._members.values():
            if member.due_ms <= now_ms:
                self._overdue(now_ms, member)
        if self._taking:
            self._replace_one(now_ms)
            for place in self._places:
                if place.start_ms <= now_ms:
                    self._start(now_ms, place)
        if self._weigh_ms <= now_ms:
            self._weigh_ms = now_ms + WEIGH_MS
            self._effects.weigh += [
                m.number for m in self._members.values() if m.state is State.SERVING
            ]
        effects, self._effects = self._effects, FleetEffects()
        return effects

    def _overdue(self, now_ms: int, member: _Member) -> None:
        if member.state is State.LEAVING:
            self._kill(now_ms, member, member.why)
        elif member.state is State.KILLED:
            self._note("process_does_not_end", {"process": member.number, "why": member.why})
            self._kill(now_ms, member, member.why)
        else:
            member.due_ms = NEVER_MS
            seconds = (now_ms - member.began_ms) // 1000
            self._note("process_does_not_serve", {"process": member.number, "seconds": seconds})

    def _start(self, now_ms: int, place: _Place) -> None:
        place.start_ms = NEVER_MS
        place.starts += 1
        self._number += 1
        member = _Member(self._number, place, now_ms, due_ms=now_ms + SERVING_MS_MAX)
        self._members[member.number] = member
        if place.current is None:
            place.current = member
        else:
            place.following = member
        self._effects.start.append(member.number)

    @property
    def _replacing(self) -> bool:
        return any(
            place.following is not None or (place.current is not None and place.start_ms < NEVER_MS)
            for place in self._places
        )

    def _replace_one(self, now_ms: int) -> None:
        """Begin to replace a process that is due; one at a time, so that few are there twice."""
        if self._replacing:
            return
        for place in self._places:
            member = place.current
            if member is not None and member.state is State.SERVING:
                member.worn = self._worn(now_ms, member)
                if member.worn:
                    place.start_ms = now_ms
                    return

    def _worn(self, now_ms: int, member: _Member) -> str:
        terms = self._terms
        if terms.recycle_tasks is not None and member.tasks >= terms.recycle_tasks:
            return f"replaced: {member.tasks} tasks"
        if (
            terms.recycle_memory_bytes is not None
            and member.memory_bytes >= terms.recycle_memory_bytes
        ):
            return f"replaced: {member.memory_bytes} bytes of memory"
        if self._aged_ms(member) <= now_ms:
            return f"replaced: {(now_ms - member.began_ms) // 1000} s old"
        return ""

    def _aged_ms(self, member: _Member) -> int:
        age_ms = self._terms.recycle_age_ms
        return NEVER_MS if age_ms is None else member.began_ms + age_ms

    @property
    def due_ms(self) -> int:
        """When ``flush`` is to be called at the latest."""
        due = [self._weigh_ms]
        due += [member.due_ms for member in self._members.values()]
        due += [place.start_ms for place in self._places]
        if self._taking and not self._replacing:
            due += [
                self._aged_ms(place.current)
                for place in self._places
                if place.current is not None and place.current.state is State.SERVING
            ]
        return min(due)

    # --- Facts ---------------------------------------------------------------------------------

    def facts(self, now_ms: int, pids: Mapping[int, int]) -> list[dict[str, int | str]]:
        """Return how each place stands, for people and probes; ``pids`` are by process."""
        return [self._facts_of(now_ms, place, pids) for place in self._places]

    def _facts_of(
        self, now_ms: int, place: _Place, pids: Mapping[int, int]
    ) -> dict[str, int | str]:
        facts: dict[str, int | str] = {"state": "none"}
        if (member := place.current) is not None:
            facts = {"state": member.state.name.lower(), "pid": pids.get(member.number, 0)}
            facts |= {"age_ms": now_ms - member.began_ms, "tasks": member.tasks}
        elif place.start_ms < NEVER_MS:
            facts = {"state": "waiting", "next_start_in_ms": max(0, place.start_ms - now_ms)}
        return facts | {"restarts": max(0, place.starts - 1), "last_end": place.last_end}

    def _note(self, name: str, facts: dict[str, int | str]) -> None:
        self._effects.notes.append(Note(name, facts))

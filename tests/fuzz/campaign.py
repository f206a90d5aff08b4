"""Fire mutated frames at all who read frames, batch by batch, and see what comes of it.

Each batch has a world of its own and its own random numbers: batch ``n`` of a seed is the same in
every campaign.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from protocol import codec
from protocol.errors import ProtocolError
from protocol.messages import Message
from tests.fuzz import corpus
from tests.fuzz.mutate import Mutator, Template
from tests.fuzz.shard_target import ShardTarget
from tests.fuzz.sidecar_targets import CoordinatorTarget, LocalTarget
from tests.fuzz.texts import peak_bytes, told
from tests.fuzz.world import Harmed

FRAMES_PER_BATCH = 2_000
FRAMES_PER_TURN = 32
TURNS_PER_REFRESH = 6
MEMORY_BYTES_MAX = 256 * 2**20
"""How much the process may grow by."""
FRAME_SHOWN_BYTES = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """A frame that did what no frame may do."""

    seed: int
    batch: int
    frame: int
    problem: str
    data: bytes

    def __str__(self) -> str:
        shown = self.data[:FRAME_SHOWN_BYTES].hex()
        more = "..." if len(self.data) > FRAME_SHOWN_BYTES else ""
        return (
            f"batch {self.batch} of seed {self.seed}, frame {self.frame}: {self.problem}\n"
            f"    the last frame ({len(self.data)} bytes): {shown}{more}\n"
            f"    again: python -m tests.fuzz --seed {self.seed} --only {self.batch}"
        )


@dataclass
class Report:
    """What a campaign has found."""

    frames: int = 0
    messages: int = 0
    """Frames that were read, and went on into the cores."""
    seconds: float = 0.0
    slowest_ms: float = 0.0
    """The longest that one frame took to be read or refused, of the processor's time."""
    grown_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Frames in a second."""
        return self.frames / self.seconds if self.seconds else 0.0


@cache
def _still() -> list[Template]:
    return corpus.golden() + corpus.traffic()


@cache
def _still_batches() -> list[Template]:
    return corpus.golden_batches()


class Battery:
    """Fires the frames of one batch."""

    def __init__(self, seed: int, batch: int, report: Report) -> None:
        self.data = b""
        self.frames = 0
        self._rng = rng = random.Random(f"fuzz {seed} {batch}")
        self._report = report
        self._shard = ShardTarget(rng)
        self._local = LocalTarget(rng)
        self._coordinator = CoordinatorTarget(rng)
        self._mutators = [Mutator(rng, []) for _ in range(4)]
        self._shots: Sequence[Callable[[bytes], None]] = (
            self._at_the_shard,
            self._at_the_sidecar_as_a_neighbour,
            self._at_the_sidecar_as_its_coordinator,
            self._at_the_batch_reader,
        )
        self._refresh()

    def _refresh(self) -> None:
        """Take frames that are right just now into what is mutated."""
        rng, still = self._rng, _still()
        self._shard.revive()
        live = (
            self._shard.templates(),
            self._local.templates(),
            self._coordinator.templates(),
            [self._shard.batch(), *_still_batches()],
        )
        for mutator, templates in zip(self._mutators[:3], live[:3], strict=True):
            mutator.templates = templates * 2 + rng.sample(still, 16)
        self._mutators[3].templates = live[3]

    def fire(self, frames: int) -> None:
        """Fire, and see in the end how those are who have nothing to do with it."""
        turn = 0
        while self.frames < frames:
            which = 3 if self._rng.random() < 0.1 else turn % 3
            mutator, shoot = self._mutators[which], self._shots[which]
            for _ in range(min(FRAMES_PER_TURN, frames - self.frames)):
                self.data = data = mutator.next()
                self.frames += 1
                shoot(data)
            (self._shard, self._local, self._coordinator, self._shard)[which].turn()
            turn += 1
            if turn % TURNS_PER_REFRESH == 0:
                self._refresh()
        self._shard.check()
        self._local.check()
        self._coordinator.check()

    def _read(self, data: bytes) -> Message | None:
        began = time.thread_time()  # Others may have the processor meanwhile.
        try:
            message = codec.decode(data)
        except ProtocolError as error:
            self._shard.broke(error)
            return None
        finally:
            took_ms = (time.thread_time() - began) * 1000
            self._report.slowest_ms = max(self._report.slowest_ms, took_ms)
        self._report.messages += 1
        return message

    def _at_the_shard(self, data: bytes) -> None:
        message = self._read(data)
        if message is not None:
            self._shard.fire(message)

    def _at_the_sidecar_as_a_neighbour(self, data: bytes) -> None:
        self._report.messages += len(self._local.fire_bytes(data))

    def _at_the_sidecar_as_its_coordinator(self, data: bytes) -> None:
        message = self._read(data)
        if message is not None:
            self._coordinator.fire(message)

    def _at_the_batch_reader(self, data: bytes) -> None:
        self._report.messages += 1
        self._shard.fire_batch(data)


def run(seed: int, batches: Sequence[int], frames: int = FRAMES_PER_BATCH) -> Report:
    """Fire so many frames in each batch, and return what was found."""
    report = Report()
    _still()
    before = peak_bytes()
    began = time.perf_counter()
    for batch in batches:
        finding = _fire(seed, batch, frames, report)
        if finding is not None:
            report.findings.append(finding)
        report.seconds = time.perf_counter() - began
        report.grown_bytes = peak_bytes() - before
        if report.grown_bytes > MEMORY_BYTES_MAX:
            problem = f"the process has grown by {report.grown_bytes} bytes"
            report.findings.append(Finding(seed, batch, frames, problem, b""))
            break
    return report


def _fire(seed: int, batch: int, frames: int, report: Report) -> Finding | None:
    battery = Battery(seed, batch, report)
    problem = ""
    try:
        battery.fire(frames)
    except Harmed as harm:
        problem = str(harm)
    except Exception as error:  # Whatever it is, it is a finding, and the next batch goes on.
        problem = told(error)
    report.frames += battery.frames
    return Finding(seed, batch, battery.frames, problem, battery.data) if problem else None

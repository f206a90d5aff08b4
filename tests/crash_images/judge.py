"""Open an image with the real store and the real shard, and say what is wrong with it."""

import random
from pathlib import Path

from coordinator.core.effects import GetMany, Scan
from coordinator.core.layout import split_leases
from coordinator.errors import StoreError
from coordinator.store.lmdb_store import LmdbStore
from protocol import messages as m
from protocol.submission import encode_batch
from tests.coordinator.core.audit import Audit
from tests.crash_images.inline import Inline
from tests.crash_images.recording import Expected, Pairs, Recording
from tests.crash_images.shell import Shell
from tests.crash_images.traffic import RETENTION_MS, TIMEOUT_MS, Clock
from tests.crash_images.workload import MAP_BYTES
from tests.crash_images.wrong import Wrong, commit_of
from tests.support.builders import a_hello, a_submission

BOGUS = m.Lease(b"\xff" * 16, 1)
"""A lease that nobody has ever had."""
AUDITED_SHARE = 0.2
"""Of the images, how many are audited once more after they were used: it takes a while."""
EVERYTHING = Scan(b"\1", b"\xff", 1 << 30)


class InlineStore(LmdbStore):
    """The real store, with its own thread's work done in the caller's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, map_bytes=MAP_BYTES, allow_filesystem=True)
        self._thread = Inline()  # type: ignore[assignment]


async def judge(folder: Path, expected: Expected, recording: Recording, rng: random.Random) -> None:
    """Check one image.

    Raises:
        Wrong: It breaks a promise; says which.
    """
    clock = Clock()
    clock.advance(rng.randrange(3) * RETENTION_MS)
    store = InlineStore(folder)
    shell = Shell(store, clock, session_timeout_ms=TIMEOUT_MS, retention_succeeded_ms=RETENTION_MS)
    try:
        await shell.open()
    except StoreError as error:
        raise Wrong(f"it is not opened: {type(error).__name__}: {error}") from None
    try:
        _check_ownership(shell, expected)
        pairs = await _pairs(store)
        commit = commit_of(pairs, expected, recording.states)
        audit = recording.audit(commit)
        await shell.recover()
        await shell.settle()
        _check_recovered(shell, audit)
        await _check_leases(shell, pairs, audit)
        await _check_use(shell, rng)
        if rng.random() < AUDITED_SHARE:
            problems = Audit(await _pairs(store)).problems()
            if problems:
                raise Wrong(f"after use: {problems}")
    finally:
        await store.close()


async def _pairs(store: LmdbStore) -> Pairs:
    [pairs] = await store.apply({}, [EVERYTHING])
    return dict(pairs)


def _check_ownership(shell: Shell, expected: Expected) -> None:
    owned = shell.ownership
    if expected.uuid is None:
        return  # Nothing was promised to anybody; a store that is made anew is fine.
    if owned.created:
        raise Wrong("an empty store was made in place of the one that was there")
    if owned.uuid != expected.uuid:
        raise Wrong(f"the store is {owned.uuid.hex()}; it was {expected.uuid.hex()}")
    if not expected.epoch < owned.epoch <= expected.epoch + 1 + expected.opening:
        raise Wrong(f"epoch {owned.epoch} follows epoch {expected.epoch}")


def _check_recovered(shell: Shell, audit: Audit) -> None:
    corrupt = [note for note in shell.notes if note.event == "record_corrupt"]
    if corrupt:
        raise Wrong(f"a record does not decode: {corrupt[0].fields}")
    [note] = [note for note in shell.notes if note.event == "recovered"]
    counts = audit.counts.values()
    right = {
        "handlers": len(audit.handlers),
        "leases": len(audit.leases),
        "ready": sum(sum(count[:4]) for count in counts),
        "scheduled": sum(count[4] for count in counts),
    }
    found = {name: note.fields[name] for name in right}
    if found != right:
        raise Wrong(f"the shard has {found}; the store has {right}")


async def _check_leases(shell: Shell, pairs: Pairs, audit: Audit) -> None:
    """Let every session come back, with what it held and with a lease that it never had."""
    holders: dict[bytes, list[m.Lease]] = {key[1:]: [] for key in pairs if key[:1] == b"n"}
    live = set(audit.leases)
    for key, value in pairs.items():
        if key[:1] == b"g":
            holder, leases = split_leases(key, value)
            held = [m.Lease(*lease) for lease in leases if lease in live]
            if held:
                holders.setdefault(holder, []).extend(held)
    for number, (incarnation, held) in enumerate(sorted(holders.items())):
        peer = b"back-%d" % number
        await shell.say(peer, a_hello(incarnation=incarnation, held=[*held, BOGUS]))
        [welcome] = [o.message for o in shell.sent if isinstance(o.message, m.Welcome)]
        if not welcome.resumed or welcome.lost != [BOGUS]:
            raise Wrong(f"a session with {len(held)} leases came back as {welcome}")
        shell.sent.clear()


async def _check_use(shell: Shell, rng: random.Random) -> None:
    """Let one more task through, from its submission to its end."""
    peer, handler = b"new", "email.send"
    task = a_submission(rng.getrandbits(60), handler=handler)
    await shell.tick()
    shell.sent.clear()
    await shell.say(
        peer,
        a_hello(incarnation=rng.randbytes(16)),
        m.Handlers([m.Declaration(handler, {})]),
        m.Submit([m.Batch(1, encode_batch([task]))]),
        m.Demand([m.Limit(handler, 1000)]),
    )
    sent = [outgoing.message for outgoing in shell.sent]
    grants = [message for message in sent if isinstance(message, m.Grant)]
    granted = [t for grant in grants for group in grant.groups for t in group.tasks]
    if m.Accepted([m.Verdict(1, None, "", 0, [])]) not in sent:
        raise Wrong("a new task is not accepted")
    if task.id not in [t.id for t in granted]:
        raise Wrong("a new task is not granted")
    outcomes = [m.Outcome(t.id, t.token, m.OutcomeKind.SUCCESS, 1, None) for t in granted]
    shell.sent.clear()
    await shell.say(peer, m.Outcomes(1, outcomes))
    if [outgoing.message for outgoing in shell.sent] != [m.Recorded(1, [])]:
        raise Wrong(f"outcomes are not recorded: {shell.sent[:1]}")
    [found] = await shell.store.apply({}, [GetMany([b"t" + task.id])])
    if len(found) != 1:
        raise Wrong("a new task is not there after its outcome was recorded")

"""``check --store``: look for damage in a whole store, served or not.

Of a coordinator that serves, slice by slice over its API, with a rest after each, so that the work
takes a fifth of its time at most. Exit codes: 0 all is as it was written, 1 something is damaged.
"""

import time

from coordinator.commands import offline
from coordinator.commands.api import Api, Unreachable
from coordinator.commands.output import tell
from coordinator.commands.progress import Progress
from coordinator.commands.running import place_of
from coordinator.errors import Refused
from coordinator.settings import Settings, build
from coordinator.store.lmdb_store import verify_file
from coordinator.store.snapshot import Snapshot
from protocol.settings import Values

_REST = 4
"""Rest after a slice, in times of what it took."""
_FINDINGS_MAX = 1_000


def scrub(values: Values, form: str) -> int:
    """Look at everything, name what is damaged, and return the exit code."""
    return offline.run(lambda: _scrub(values, form))


def _scrub(values: Values, form: str) -> int:
    settings = build(values)
    try:
        return _served(Api(place_of(settings, values)), form)
    except Unreachable as unreachable:
        try:
            return _file(settings, form)
        except Refused as error:
            raise Refused(f"{unreachable}\n{error}") from None


def _served(api: Api, form: str) -> int:
    total = api.get("/v1/status")["disk"]["used"]
    counted = dict.fromkeys(("rows", "tasks", "payloads", "bytes", "damaged"), 0)
    findings: list[dict[str, str]] = []
    progress = Progress("checking", total)
    began = time.monotonic()
    query: dict[str, str] = {}
    while True:
        asked = time.monotonic()
        found = api.get("/v1/scrub", query)
        took = time.monotonic() - asked
        for name in counted:
            counted[name] += found[name]
        findings += found["findings"][: max(0, _FINDINGS_MAX - len(findings))]
        progress(counted["bytes"])
        if found["after"] is None:
            break
        query = {"after": found["after"]}
        time.sleep(_REST * took)
    progress.close()
    return _report(counted, findings, offline.since(began), form)


def _file(settings: Settings, form: str) -> int:
    began = time.monotonic()
    with offline.held(settings, to_read=True) as directory:
        verify_file(directory.data_file, "restore it from a backup")
        snapshot = Snapshot(directory.data_file)
        progress = Progress("checking", snapshot.compact_bytes)
        try:
            for walk in snapshot.scrub():
                progress(walk.bytes)
        finally:
            progress.close()
            snapshot.close()
    counted = {
        name: getattr(walk, name) for name in ("rows", "tasks", "payloads", "bytes", "damaged")
    }
    findings = [finding._asdict() for finding in walk.findings]
    return _report(counted, findings, offline.since(began), form)


def _report(
    counted: dict[str, int], findings: list[dict[str, str]], seconds: float, form: str
) -> int:
    text = f"{counted['rows']} rows, {counted['tasks']} tasks, {counted['payloads']} payloads"
    lines = [f"damaged {one['kind']} {one['key']}: {one['problem']}" for one in findings]
    hidden = counted["damaged"] - len(findings)
    if hidden > 0:
        lines.append(f"and {hidden} more")
    verdict = f"{counted['damaged']} damaged" if counted["damaged"] else "all as it was written"
    offline.told(
        form,
        {**counted, "findings": findings, "seconds": seconds},
        [*lines, f"{text} looked at in {seconds} s: {verdict}"],
    )
    if counted["damaged"]:
        tell(
            "pillion-coordinator: what can be mended is mended when the coordinator reads it, and "
            "its log tells; what cannot is in an earlier backup, if anywhere"
        )
    return offline.EXIT_FAILED if counted["damaged"] else 0

"""Export and import as real processes: what is not over goes from one store to another, whole."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocol.ids import TaskIds, to_text
from sidecar import Client
from tests.scenarios.stage import wait_for_facts
from tests.support import commands
from tests.support.commands import Done
from tests.support.filled_store import STATES, count_of, fill, handler_name
from tests.support.process import ROOT
from tests.support.processes import System

TASKS = 2_000
SECONDS = 60.0
FAILED, NOT_FOUND, CONFLICT, NO_ROOM = 1, 3, 4, 75
WAITING = sum(count_of(state, TASKS) for state in set(STATES) if not state.terminal)
BIG = "x" * 100_000
SERVICE = """
from sidecar import Service

service = Service("mail")

@service.handler()
async def send(to: str, text: str) -> str:
    return f"{to} {len(text)}"

service.run()
"""


def command(*arguments: object, stdin: str = "") -> Done:
    return commands.run("coordinator", *arguments, stdin=stdin)


def import_into(folder: Path, file: Path | str, *options: str, stdin: str = "") -> Done:
    place = ("--data-dir", folder, "--allow-filesystem", "-o", "json")
    return command("import", file, *place, *options, stdin=stdin)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder, TASKS, time.time_ns() // 1_000_000))
    done = command("export", "--data-dir", folder)
    assert done.code == 0, done.err
    return done.out.splitlines(keepends=True)


def test_each_task_that_is_not_over_is_one_line(exported: list[str]) -> None:
    rows = [json.loads(line) for line in exported]

    assert len(rows) == WAITING
    assert {row["state"] for row in rows} == {"ready", "scheduled"}
    assert {row["handler"] for row in rows} == {handler_name(n) for n in range(20)}


def test_import_keeps_ids_and_skips_what_is_there(system: System, exported: list[str]) -> None:
    folder = system.folder / "other"
    half = "".join(exported[: WAITING // 2])

    first = import_into(folder, "-", stdin=half)
    second = import_into(folder, "-", stdin="".join(exported))

    assert first.told | {"seconds": 0} == {
        "accepted": WAITING // 2,
        "there_already": 0,
        "ended": 0,
        "refused": 0,
        "seconds": 0,
    }
    assert second.code == 0, second.err
    assert (second.told["accepted"], second.told["there_already"]) == (WAITING // 2,) * 2
    again = command("export", "--data-dir", folder).out.splitlines()
    ids = [json.loads(line)["id"] for line in exported]
    assert [json.loads(line)["id"] for line in again] == ids
    assert command("check", "--store", "--data-dir", folder).code == 0


def test_tasks_go_from_a_coordinator_by_backup_and_import_to_another_and_run(
    system: System,
) -> None:
    first = system.coordinator(name="first")
    sidecar = system.sidecar("mail", first)
    payloads = [{"to": f"{n}@b.c", "text": BIG if n % 10 == 0 else "short"} for n in range(40)]
    ids = [to_text(task_id) for task_id in TaskIds().batch(len(payloads))]
    with Client(sidecar.socket_path, accepted_only=True, timeout=SECONDS) as client:
        for task_id, payload in zip(ids, payloads, strict=True):
            client.submit("mail.send", payload, id=task_id, collection="spring")
    saved, lines = system.folder / "saved.mdb", system.folder / "tasks.ndjson"
    assert command("backup", saved, "--data-dir", first.data_folder).code == 0
    exported = command("export", lines, "--backup", saved)
    second = system.coordinator(name="second", start=False)
    imported = import_into(second.data_folder, lines)
    second.start()
    heir = system.sidecar("mail", second, name="heir")
    system.service("mail", heir, SERVICE)

    assert exported.code == 0, exported.err
    assert imported.told["accepted"] == len(ids)
    with Client(heir.socket_path) as client:
        wait_for_facts(heir, client, "has a service", services=1)
        for task_id, payload in zip(ids, payloads, strict=True):
            result = client.wait(task_id, timeout=SECONDS)
            assert result == f"{payload['to']} {len(payload['text'])}"


def test_lines_that_are_no_tasks_are_named_and_harm_no_other(
    system: System, exported: list[str]
) -> None:
    folder = system.folder / "other"
    lines = ['{"handler": "a.b"}\n', exported[0], "\n", "nonsense\n", exported[1]]

    done = import_into(folder, "-", stdin="".join(lines))
    other = json.loads(exported[0]) | {"payload": {"other": 1}}
    del other["payload_base64"]
    clash = import_into(folder, "-", stdin=json.dumps(other))

    assert done.code == FAILED
    assert (done.told["accepted"], done.told["refused"]) == (2, 2)
    assert "line 1: 'id' is missing" in done.err and "line 4: it is no JSON" in done.err
    assert clash.code == FAILED and "duplicate_id" in clash.err


def test_tasks_that_have_ended_are_exported_if_wanted_and_never_imported(system: System) -> None:
    folder = system.folder / "filled"
    asyncio.run(fill(folder, TASKS, time.time_ns() // 1_000_000))

    lines = command("export", "--all", "--data-dir", folder).out
    imported = import_into(system.folder / "other", "-", stdin=lines)

    assert lines.count("\n") == TASKS
    assert imported.told["ended"] == TASKS - WAITING
    assert imported.told["accepted"] == WAITING


def test_store_that_is_served_is_neither_exported_nor_imported_into(
    system: System, exported: list[str]
) -> None:
    coordinator = system.coordinator()

    out = command("export", "--data-dir", coordinator.data_folder)
    into = import_into(coordinator.data_folder, "-", stdin="".join(exported))

    for refused in (out, into):
        assert refused.code == CONFLICT and f"in use by pid {coordinator.pid}" in refused.err


def test_import_into_a_full_store_stops_and_can_be_repeated(
    system: System, exported: list[str]
) -> None:
    folder = system.folder / "other"

    full = import_into(folder, "-", "--disk-free-min", "60TiB", stdin="".join(exported))
    later = import_into(folder, "-", stdin="".join(exported))

    assert full.code == NO_ROOM and "disk_free_min" in full.err
    assert later.told["accepted"] == WAITING


def test_export_of_no_store_is_told(system: System) -> None:
    assert command("export", "--data-dir", system.folder / "nothing").code == NOT_FOUND


def test_reader_that_has_seen_enough_ends_an_export_quietly(system: System) -> None:
    folder = system.folder / "filled"
    asyncio.run(fill(folder, TASKS, time.time_ns() // 1_000_000))
    with subprocess.Popen(
        [sys.executable, "-m", "coordinator", "export", "--all", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        err = process.stderr.read().decode()

    assert process.returncode == 0
    assert err == ""

"""Backup, restore, compact and check --store as real processes, and what goes wrong with them."""

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import lmdb
import pytest

from coordinator.store.snapshot import Snapshot
from sidecar import Client, NewTask, PillionError
from tests.support import commands
from tests.support.commands import Done
from tests.support.filled_store import fill
from tests.support.process import Process
from tests.support.processes import Coordinator, System

TASKS = 4_000
SECONDS = 60.0
FAILED, USAGE, NOT_FOUND, CONFLICT, NO_ROOM = 1, 2, 3, 4, 75
UNREACHABLE = 5
MAP_BYTES = 2**30
SMALL_MAP_BYTES = 2**26
PARCEL_BYTES = 2**16
PARCEL = NewTask(handler="mail.h01", payload=b"x" * PARCEL_BYTES)


def command(*arguments: object) -> Done:
    return commands.run("coordinator", *arguments)


def save(folder: Path, file: Path, *options: object) -> Done:
    return command("backup", file, "--data-dir", folder, "-o", "json", *options)


def restore(folder: Path, file: Path, *options: str) -> Done:
    place = ("--data-dir", folder, "--allow-filesystem", "-o", "json")
    return command("restore", file, *place, *options)


def check(folder: Path) -> Done:
    return command("check", "--store", "--data-dir", folder, "-o", "json")


def filled(system: System, *options: str) -> Coordinator:
    coordinator = system.coordinator(*options, start=False)
    asyncio.run(fill(coordinator.data_folder, TASKS, time.time_ns() // 1_000_000))
    return coordinator


def spoil(folder: Path, kind: bytes) -> str:
    """Flip one bit of the first row of a kind; return its key."""
    with (
        lmdb.open(str(folder), map_size=MAP_BYTES, lock=False) as env,
        env.begin(write=True) as txn,
    ):
        cursor = txn.cursor()
        cursor.set_range(kind)
        key, value = bytearray(cursor.key()), bytearray(cursor.value())
        assert key[:1] == kind
        value[-1] ^= 1
        txn.put(bytes(key), bytes(value))
    return key.hex()


def test_serving_coordinator_is_saved_and_restored_elsewhere(system: System) -> None:
    coordinator = filled(system)
    coordinator.start()
    file, elsewhere = system.folder / "saved.mdb", system.folder / "elsewhere"

    saved = save(coordinator.data_folder, file)
    restored = restore(elsewhere, file)

    assert saved.code == 0, saved.err
    assert saved.told["tasks"] == TASKS and saved.told["of_a_serving_coordinator"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(system.folder.glob("*.partial"))
    assert restored.code == 0, restored.err
    assert restored.told["tasks"] == TASKS
    assert restored.told["store"] == saved.told["store"]
    assert restored.told["epoch"] > saved.told["epoch"] + 1_000
    assert check(elsewhere).told["tasks"] == TASKS


def test_backup_never_takes_the_place_of_a_store(system: System) -> None:
    coordinator = filled(system)
    coordinator.start()
    file = coordinator.data_folder / "data.mdb"
    before = file.stat().st_ino

    saved = save(coordinator.data_folder, file, "--replace")

    assert saved.code == 4
    assert "is the folder of a store" in saved.err
    assert file.stat().st_ino == before
    assert not list(coordinator.data_folder.glob("*.partial"))


def test_store_that_nobody_serves_is_saved_too(system: System) -> None:
    coordinator = filled(system)

    saved = save(coordinator.data_folder, system.folder / "saved.mdb")

    assert saved.code == 0, saved.err
    assert saved.told["tasks"] == TASKS and not saved.told["of_a_serving_coordinator"]
    assert coordinator.start().running


def test_file_that_exists_is_replaced_only_if_told_so(system: System) -> None:
    coordinator = filled(system)
    file = system.folder / "saved.mdb"
    file.write_bytes(b"precious")

    refused = save(coordinator.data_folder, file)

    assert refused.code == CONFLICT and "--replace" in refused.err
    assert file.read_bytes() == b"precious"
    assert save(coordinator.data_folder, file, "--replace").code == 0
    assert file.read_bytes() != b"precious"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_backup_that_is_stopped_in_the_middle_leaves_no_file(
    system: System, number: signal.Signals
) -> None:
    coordinator = filled(system)
    coordinator.start()
    file = system.folder / "saved.mdb"
    partial = file.with_name("saved.mdb.partial")
    place = ("--data-dir", str(coordinator.data_folder), "--rate", "1MiB")
    process = system.add(
        Process("backup", ["-m", "coordinator", "backup", str(file), *place], system.folder)
    )
    process.wait_until(lambda: partial.exists() and partial.stat().st_size > 0, "has begun")

    process.signal(number)
    process.wait()

    assert not file.exists()
    assert partial.exists() == (number is signal.SIGKILL)
    coordinator.wait_until(lambda: "backup_stopped" in coordinator.output(), "has seen the end")
    if partial.exists():
        assert restore(system.folder / "elsewhere", partial).code == FAILED
    assert save(coordinator.data_folder, file).told["tasks"] == TASKS


@pytest.mark.parametrize("how", ["cut", "page", "row", "empty", "text"])
def test_damaged_backup_is_refused_and_changes_nothing(system: System, how: str) -> None:
    coordinator = filled(system)
    file = system.folder / "saved.mdb"
    assert save(coordinator.data_folder, file).code == 0
    _damage(file, how)
    before = coordinator.data_folder.joinpath("data.mdb").read_bytes()

    refused = restore(coordinator.data_folder, file, "--replace")

    assert refused.code in (FAILED, CONFLICT)
    assert str(file) in refused.err and "Traceback" not in refused.err
    assert coordinator.data_folder.joinpath("data.mdb").read_bytes() == before
    assert coordinator.start().running


def _damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif how == "page":
        half = len(data) // 2 // 4096 * 4096
        data[half : half + 4096] = os.urandom(4096)
        file.write_bytes(data)
    elif how == "row":
        place = data.index(b"somebody@example.org")
        data[place] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(b"" if how == "empty" else b"no store at all\n" * 1_000)


@pytest.mark.parametrize("options", [(), ("--replace",)])
def test_restore_onto_a_store_that_is_served_is_refused(
    system: System, options: tuple[str, ...]
) -> None:
    coordinator = filled(system)
    coordinator.start()
    file = system.folder / "saved.mdb"
    assert save(coordinator.data_folder, file).code == 0

    refused = restore(coordinator.data_folder, file, *options)

    assert refused.code == CONFLICT and f"in use by pid {coordinator.pid}" in refused.err
    assert check(coordinator.data_folder).told["tasks"] == TASKS


def test_what_a_restore_replaces_is_kept(system: System) -> None:
    coordinator = filled(system)
    folder, file = coordinator.data_folder, system.folder / "saved.mdb"
    assert save(folder, file).code == 0

    refused = restore(folder, file)
    replaced = restore(folder, file, "--replace")

    assert refused.code == CONFLICT and "--replace" in refused.err
    assert replaced.code == 0, replaced.err
    kept = Snapshot(Path(replaced.told["replaced"]))
    assert kept.meta.epoch < replaced.told["epoch"]
    kept.close()
    assert coordinator.start().running


def test_store_whose_file_is_gone_is_restored(system: System) -> None:
    coordinator = filled(system)
    folder, file = coordinator.data_folder, system.folder / "saved.mdb"
    assert save(folder, file).code == 0
    (folder / "data.mdb").unlink()

    restored = restore(folder, file)

    assert restored.code == 0, restored.err
    assert coordinator.start().running


def test_restoring_what_is_not_there_is_told(system: System) -> None:
    refused = restore(system.folder / "data", system.folder / "nothing.mdb")

    assert refused.code != 0 and "there is no such file" in refused.err


def test_compact_makes_the_file_small_and_loses_nothing(system: System) -> None:
    coordinator = filled(system)
    folder = coordinator.data_folder
    with lmdb.open(str(folder), map_size=MAP_BYTES, lock=False) as env:
        with env.begin(write=True) as txn:
            for number in range(200):
                txn.put(b"y%d" % number, bytes(100_000))
        with env.begin(write=True) as txn:
            for number in range(200):
                txn.delete(b"y%d" % number)

    done = command("compact", "--data-dir", folder, "--allow-filesystem", "-o", "json")

    assert done.code == 0, done.err
    assert done.told["bytes_before"] > 4 * done.told["bytes_after"]
    assert (folder / "data.mdb").stat().st_size == done.told["bytes_after"]
    assert check(folder).told["tasks"] == TASKS
    coordinator.start()
    served = command("compact", "--data-dir", folder, "--allow-filesystem")
    assert served.code == CONFLICT and "in use" in served.err


@pytest.mark.parametrize("kind", [b"t", b"r", b"x", b"m"])
@pytest.mark.parametrize("served", [True, False], ids=["served", "offline"])
def test_damage_in_a_store_is_found_and_named(system: System, kind: bytes, served: bool) -> None:
    coordinator = filled(system)
    folder = coordinator.data_folder
    key = spoil(folder, kind)
    if served:
        coordinator.start()
    found = check(folder)

    keys = [finding["key"] for finding in found.told["findings"]]
    if kind != b"m" or not served:  # The second copy of a name is mended at the start.
        assert found.code == FAILED
        assert key in keys
    assert found.told["tasks"] == TASKS
    assert "somebody" not in found.out + found.err


def test_backup_is_refused_where_the_store_has_no_room_to_grow(system: System) -> None:
    coordinator = filled(system, "--disk-free-min", "60TiB")
    coordinator.start()
    file = system.folder / "saved.mdb"

    refused = save(coordinator.data_folder, file)

    assert refused.code == NO_ROOM and "can grow by 0 KiB" in refused.err
    assert not list(system.folder.glob("saved*"))


def test_backup_is_stopped_before_the_store_runs_full_for_it(system: System) -> None:
    coordinator = filled(system, "--store-map-size", f"{SMALL_MAP_BYTES}")
    coordinator.start()
    sidecar = system.sidecar("mail", coordinator)
    with Client(str(sidecar.socket_path)) as client:
        client.submit_many([PARCEL] * (SMALL_MAP_BYTES // 8 // PARCEL_BYTES))
    file = system.folder / "saved.mdb"
    place = ("--data-dir", str(coordinator.data_folder), "--rate", "1MiB")
    process = system.add(
        Process("backup", ["-m", "coordinator", "backup", str(file), *place], system.folder)
    )
    coordinator.wait_until(lambda: "backup_began" in coordinator.output(), "has begun")

    with Client(str(sidecar.socket_path)) as client:
        for _ in range(SMALL_MAP_BYTES * 5 // 8 // PARCEL_BYTES // 8):
            assert not [x for x in client.submit_many([PARCEL] * 8) if isinstance(x, PillionError)]
            if not process.running:
                break
        process.end_expected = True
        assert process.wait() == UNREACHABLE
        assert "the backup was stopped: the store has grown by" in process.output()
        assert not list(system.folder.glob("saved*"))


def test_nobody_gets_a_store_over_tcp_without_a_token(system: System) -> None:
    coordinator = filled(system)
    coordinator.start()
    port = json.loads(_ask_socket(coordinator.http_socket, "/v1/status"))
    assert port["verdict"]
    address = next(
        json.loads(line)["address"]
        for line in coordinator.output().splitlines()
        if '"http_serving"' in line
    )
    host, _, number = address.rpartition(":")
    with socket.create_connection((host, int(number)), timeout=SECONDS) as connection:
        connection.sendall(b"GET /v1/backup HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = connection.makefile("rb").read()

    assert answer.split(b" ")[1] == b"403" and b"token_needed" in answer


def _ask_socket(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]


def test_backup_to_a_folder_that_is_not_there_is_refused(system: System) -> None:
    coordinator = filled(system)
    refused = save(coordinator.data_folder, system.folder / "unmounted" / "saved.mdb")
    assert refused.code == NOT_FOUND and "there is no folder" in refused.err
    assert not (system.folder / "unmounted").exists()


def test_second_backup_at_the_same_time_is_refused(system: System) -> None:
    coordinator = filled(system)
    coordinator.start()
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(coordinator.http_socket))
        # It asks and does not read, so its copy cannot end.
        first.sendall(b"GET /v1/backup?mib_per_second=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        coordinator.wait_until(lambda: "backup_began" in coordinator.output(), "has begun")

        second = save(coordinator.data_folder, system.folder / "second.mdb")

    assert second.code == CONFLICT and "already" in second.err

"""``top`` and ``--watch`` on a real terminal, with a real coordinator."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.commands.terminal import keys
from coordinator.commands.top_view import View, screen
from sidecar import Client
from tests.support.process import ROOT
from tests.support.processes import Coordinator, System
from tests.support.terminal import Terminal

LEFT, RIGHT, DOWN = "\x1b[D", "\x1b[C", "\x1b[B"
TASKS = {"image.scale": 5, "mail.bounce": 1, "mail.send": 3}


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    with System() as system:
        made = system.coordinator()
        sidecar = system.sidecar("mail", made)
        with Client(sidecar.socket_path, accepted_only=True) as client:
            for name, count in TASKS.items():
                for number in range(count):
                    client.submit(name, {"number": number})
        yield made


def on_terminal(coordinator: Coordinator, *arguments: str, lines: int = 30) -> Terminal:
    place = ["--data-dir", str(coordinator.data_folder)]
    return Terminal([sys.executable, "-m", "coordinator", *arguments, *place], lines=lines)


def names(terminal: Terminal) -> list[str]:
    return [row.split()[0] for row in terminal.rows if row.split() and row.split()[0] in TASKS]


def assert_put_back(terminal: Terminal) -> None:
    assert not terminal.other_screen
    assert terminal.cursor
    assert terminal.modes() == terminal.before


def test_top_shows_handlers_below_the_verdict_and_leaves_with_q(coordinator: Coordinator) -> None:
    with on_terminal(coordinator, "top") as terminal:
        terminal.wait_for("/ filter")

        assert terminal.other_screen
        assert not terminal.cursor
        assert terminal.rows[0].startswith("WARNING  ")
        assert "9 ready" in terminal.rows[0]
        assert terminal.rows[2].split()[:4] == ["HANDLER", "IN/S", "OUT/S", "DEAD/S"]
        assert names(terminal) == ["image.scale", "mail.send", "mail.bounce"]
        terminal.press("q")
        assert terminal.wait() == 0
        assert_put_back(terminal)


def test_top_sorts_by_the_column_that_keys_choose(coordinator: Coordinator) -> None:
    with on_terminal(coordinator, "top", "--sort", "in") as terminal:
        terminal.wait_for("IN/S▼")
        terminal.press(LEFT)
        terminal.wait_for("HANDLER▲")
        assert names(terminal) == sorted(TASKS)
        terminal.press("r")
        terminal.wait_for("HANDLER▼")
        assert names(terminal) == sorted(TASKS, reverse=True)
        terminal.press(RIGHT * 4)
        terminal.wait_for("BACKLOG▲")
        assert names(terminal) == ["mail.bounce", "mail.send", "image.scale"]
        terminal.press("\x03")
        assert terminal.wait() == 0
        assert_put_back(terminal)


def test_top_shows_the_handlers_that_a_pattern_means(coordinator: Coordinator) -> None:
    with on_terminal(coordinator, "top", "mail.*") as terminal:
        terminal.wait_for("2 handlers of 3, /mail.*")
        assert names(terminal) == ["mail.send", "mail.bounce"]
        terminal.press("/")
        terminal.wait_for("/mail.*_")
        terminal.press("\x7f" * 6 + "bounq\x7f\r")
        terminal.wait_for("1 handlers of 3, /boun")
        assert names(terminal) == ["mail.bounce"]
        terminal.press("\x1b")
        terminal.wait_for("3 handlers   q leave")


def test_top_fits_into_a_terminal_that_changes_its_size(coordinator: Coordinator) -> None:
    with on_terminal(coordinator, "top") as terminal:
        terminal.wait_for("/ filter")
        terminal.resize(60, 6)
        terminal.wait_for("1-2 of 3 handlers")
        assert len(terminal.rows) <= 6
        assert max(map(len, terminal.rows)) <= 60
        terminal.press(DOWN)
        terminal.wait_for("2-3 of 3 handlers")
        terminal.resize(120, 30)
        terminal.wait_for("\n3 handlers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_top_puts_the_terminal_back_when_a_signal_ends_it(
    coordinator: Coordinator, number: signal.Signals
) -> None:
    with on_terminal(coordinator, "top") as terminal:
        terminal.wait_for("/ filter")
        terminal.program.send_signal(number)
        assert terminal.wait() == -number
        assert_put_back(terminal)


def test_top_gives_the_terminal_away_while_it_is_stopped(coordinator: Coordinator) -> None:
    with on_terminal(coordinator, "top") as terminal:
        terminal.wait_for("/ filter")
        terminal.program.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, terminal.program.pid, os.WSTOPPED | os.WNOWAIT)
        assert terminal.modes() == terminal.before
        terminal.program.send_signal(signal.SIGCONT)
        terminal.resize(50, 6)
        terminal.wait_for("1-2 of 3 handlers")
        terminal.press("q")
        assert terminal.wait() == 0
        assert_put_back(terminal)


def test_top_says_for_how_long_nobody_answers_and_goes_on_with_who_does() -> None:
    with System() as system:
        coordinator = system.coordinator()
        with on_terminal(coordinator, "top", "--every", "100ms") as terminal:
            terminal.wait_for("0 handlers")
            coordinator.kill()
            terminal.wait_for("NO ANSWER for ")
            terminal.wait_for("no coordinator answers at")
            coordinator.start()
            sidecar = system.sidecar("mail", coordinator)
            with Client(sidecar.socket_path, accepted_only=True) as client:
                client.submit("mail.send", {})
            terminal.wait_for("mail.send")
            assert "NO ANSWER" not in terminal.shown
            terminal.press("q")
            assert terminal.wait() == 0


def test_top_needs_a_terminal_and_an_answer(coordinator: Coordinator) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "coordinator", "top"),
            *("--data-dir", str(coordinator.data_folder)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "handlers --watch -o ndjson" in done.stderr

    with Terminal([*(sys.executable, "-m", "coordinator", "top", "--data-dir", "/no")]) as terminal:
        assert terminal.wait() == 5
        assert "no coordinator answers at" in terminal.raw
        assert "1049" not in terminal.raw


def test_list_that_is_watched_is_drawn_in_place() -> None:
    with System() as system:
        coordinator = system.coordinator()
        sidecar = system.sidecar("mail", coordinator)
        with on_terminal(coordinator, "handlers", "--watch=100ms") as terminal:
            terminal.wait_for("NAME")
            with Client(sidecar.socket_path, accepted_only=True) as client:
                client.submit("mail.send", {})
            terminal.wait_for("mail.send")
            coordinator.kill()
            terminal.wait_for("NO ANSWER for ")
            assert "mail.send" in terminal.shown
            coordinator.start()
            terminal.wait_for("\nmail.send")
            terminal.press("\x03")
            assert terminal.wait() == 130
        assert terminal.raw.count("\x1b[2J") == 1


def test_keys_are_read_from_what_a_terminal_sends() -> None:
    assert list(keys(b"a\x1b[A\x1b[5~\x1bOB\x7f\r\x1b[1;5Cq\x1b")) == [
        *("a", "up", "pageup", "down", "backspace", "enter", "q", "escape"),
    ]


def test_what_is_not_known_sorts_as_least_and_views_never_scroll_out() -> None:
    fields = ("in_per_second", "out_per_second", "dead_per_second", "ready", "leased", "sidecars")
    ages = ("oldest_ready_ms", "wait_p50_ms", "wait_p99_ms", "run_p50_ms", "run_p99_ms")
    base = dict.fromkeys(fields, 0) | dict.fromkeys(ages)
    rows = [
        base | {"name": "b", "oldest_ready_ms": 5},
        base | {"name": "a"},
        base | {"name": "c", "oldest_ready_ms": 9},
    ]
    view = View(sort="oldest", first=50)
    assert [row["name"] for row in view.chosen(rows)] == ["c", "b", "a"]

    told: dict[str, Any] = {
        "verdict": "ok",
        "rates": {"submitted": 0.0, "finished": 0.0},
        "tasks": {"ready": 0, "leased": 0, "scheduled": 0, "dead": 0},
        "oldest": None,
        "sidecars": {"ready": 0},
        "reasons": [],
    }
    text = screen(told, rows, view, 6, "")
    assert len(text) == 6
    assert text[-1].startswith("2-3 of 3 handlers")

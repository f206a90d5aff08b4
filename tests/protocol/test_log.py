import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
import structlog

from protocol import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_line_is_json_when_nobody_watches() -> None:
    out = io.StringIO()
    writer = log.set_up("auto", "info", out)

    log.logger("store").info("store_opened", epoch=3)
    writer.stop()

    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "store_opened", "part": "store", "epoch": 3, "level": "info"}


def test_line_is_for_people_on_a_terminal() -> None:
    out = Terminal()
    writer = log.set_up("auto", "info", out)

    log.logger("store").warning("store_opened", epoch=3)
    writer.stop()

    assert "store_opened" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_less_severe_lines_are_left_out() -> None:
    out = io.StringIO()
    writer = log.set_up("json", "warning", out)

    log.logger("x").info("quiet")
    log.logger("x").error("loud")
    writer.stop()

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_foreign_text_forges_no_line_and_is_cut() -> None:
    out = Terminal()
    writer = log.set_up("console", "info", out)

    log.logger("x").info("refused", detail="a\nforged \x1b[2J", long="y" * 5_000)
    writer.stop()

    assert out.getvalue().count("\n") == 1
    assert "\x1b[2J" not in out.getvalue()
    assert len(out.getvalue()) < 2_000


def test_lines_of_libraries_come_too_with_their_exception() -> None:
    out = io.StringIO()
    writer = log.set_up("json", "info", out)

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("asyncio").exception("task %s failed", "x")
    writer.stop()

    line = json.loads(out.getvalue())
    assert (line["event"], line["part"], line["level"]) == ("task x failed", "asyncio", "error")
    assert "ValueError: broken" in line["exception"]


class Stuck(io.StringIO):
    """A reader that has stopped, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.go.wait(30)
        return super().write(text)


def test_reader_that_has_stopped_stops_nobody_and_what_was_dropped_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "LINES_MAX", 5)
    out = Stuck()
    writer = log.LineWriter(out)
    writer.msg("first")
    assert out.reached.wait(30)

    for number in range(8):
        writer.msg(str(number))
    out.go.set()
    writer.stop()

    lines = out.getvalue().splitlines()
    assert [line for line in lines if "dropped" not in line] == ["first", *"01234"]
    assert {"event": "log_lines_dropped", "count": 3, "level": "warning"} in [
        json.loads(line) for line in lines if "dropped" in line
    ]


def test_reader_that_has_gone_is_survived() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    writer = log.LineWriter(Gone())
    writer.msg("a")
    writer.msg("b")
    writer.stop()
    writer.stop()

    assert not writer.is_running


@pytest.mark.parametrize("form", ["console", "json"])
def test_traceback_shows_no_local_variables(form: str) -> None:
    out = io.StringIO()
    writer = log.set_up(form, "info", out)

    def fail(payload: str) -> None:
        raise ValueError(f"{len(payload)} bytes")

    try:
        fail("canary" * 3)
    except ValueError:
        log.logger("http").error("request_failed", exc_info=True)
    writer.stop()

    assert "ValueError: 18 bytes" in out.getvalue()
    assert "canarycanary" not in out.getvalue()

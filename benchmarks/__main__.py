"""``python -m benchmarks NAME [--json]``: measure, and print a table or JSON."""

import json
from collections.abc import Callable
from typing import Any

import click

from benchmarks import (
    backlog,
    core,
    end_to_end,
    http,
    idle,
    latency,
    operating,
    punctuality,
    redelivery,
    saving,
)

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value if not isinstance(value, dict) else json.dumps(value)}")
    print()


@click.group()
def main() -> None:
    """Measure Pillion on this machine."""


@main.command("end_to_end")
@click.option("--tasks", default=200_000, show_default=True)
@click.option("--batch", default=500, show_default=True, help="Tasks per submitting call.")
@click.option("--one-by-one", is_flag=True, help="Submit each task by a call of its own.")
@_json
def _end_to_end(tasks: int, batch: int, one_by_one: bool, as_json: bool) -> None:
    """Tasks per second from submitter to recorded outcome."""
    _show(end_to_end.run(tasks, 1 if one_by_one else batch), as_json)


@main.command("latency")
@click.option("--rate", default=200, show_default=True, help="Tasks per second.")
@click.option("--seconds", default=10, show_default=True)
@_json
def _latency(rate: int, seconds: int, as_json: bool) -> None:
    """From the submitting call to the handler's start, one task at a time."""
    _show(latency.run(rate, seconds), as_json)


@main.command("punctuality")
@click.option("--tasks", default=2_000, show_default=True)
@_json
def _punctuality(tasks: int, as_json: bool) -> None:
    """How late delayed tasks begin."""
    _show(punctuality.run(tasks), as_json)


@main.command("idle")
@click.option("--seconds", default=60, show_default=True)
@_json
def _idle(seconds: int, as_json: bool) -> None:
    """CPU time of a coordinator and a sidecar that have nothing to do."""
    _show(idle.run(seconds), as_json)


@main.command("backlog")
@click.option("--tasks", default=1_000_000, show_default=True)
@_json
def _backlog(tasks: int, as_json: bool) -> None:
    """Memory and start of a coordinator with many waiting tasks."""
    _show(backlog.run(tasks), as_json)


@main.command("saving")
@click.option("--tasks", default=100_000, show_default=True, help="Tasks of each turn.")
@click.option("--stored", default=400_000, show_default=True, help="Tasks stored before.")
@click.option("--turns", default=3, show_default=True, help="With and without a backup.")
@click.option("--rate", default="", help="As of the backup command.")
@_json
def _saving(tasks: int, stored: int, turns: int, rate: str, as_json: bool) -> None:
    """What a backup costs in throughput, and how long it takes, under full load."""
    _show(saving.run(tasks, stored, turns, rate), as_json)


@main.command("redelivery")
@click.option("--times", default=10, show_default=True, help="Deaths of each kind.")
@_json
def _redelivery(times: int, as_json: bool) -> None:
    """From the death of a handler's process, or of a sidecar, to the task's next attempt."""
    _show(redelivery.run(times), as_json)


@main.command("http")
@click.option("--tasks", default=50_000, show_default=True)
@click.option("--batch", default=500, show_default=True, help="Tasks per submitting call.")
@_json
def _http(tasks: int, batch: int, as_json: bool) -> None:
    """Pushing and submitting over HTTP, beside the native path and the bare hop."""
    _show(http.run(tasks, batch), as_json)


@main.command("operating")
@click.option("--tasks", default=1_000_000, show_default=True)
@_json
def _operating(tasks: int, as_json: bool) -> None:
    """What operators wait for with many tasks in the store."""
    _show(operating.run(tasks), as_json)


@main.command("core")
@click.option("--tasks", default=100_000, show_default=True)
@_json
def _core(tasks: int, as_json: bool) -> None:
    """The pure core, and the core with its store, without sockets."""
    _show(core.run(tasks), as_json)


@main.command("all")
@_json
def _all(as_json: bool) -> None:
    """Every benchmark, with its usual size."""
    runs: list[Callable[[], dict[str, Any]]] = [
        lambda: core.run(100_000),
        lambda: end_to_end.run(200_000, 500),
        lambda: end_to_end.run(50_000, 1),
        lambda: http.run(50_000, 500),
        lambda: latency.run(200, 10),
        lambda: punctuality.run(2_000),
        lambda: idle.run(60),
        lambda: redelivery.run(10),
        lambda: backlog.run(1_000_000),
        lambda: operating.run(1_000_000),
    ]
    for run in runs:
        _show(run(), as_json)


main()

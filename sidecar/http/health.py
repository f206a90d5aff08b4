"""Whether the sidecar lives, whether it has its coordinator, and all that it knows of itself."""

import json

from sidecar.http.exchange import Exchange

Facts = dict[str, int | str]


def live(exchange: Exchange) -> None:
    """Say that the process answers."""
    exchange.tell(200, b'{"live": true}')


def ready(exchange: Exchange) -> None:
    """Say whether tasks reach the coordinator at present, and whether it will last."""

    def told(facts: Facts) -> None:
        trouble = "this sidecar stops" if facts["draining"] else facts["link_trouble"]
        is_ready = facts["link"] == "open" and not facts["draining"]
        body = {"ready": is_ready, "coordinator": facts["coordinator"]}
        if not is_ready:
            body["trouble"] = trouble
        exchange.tell(200 if is_ready else 503, json.dumps(body).encode())

    exchange.peer.inspect(told)


def facts(exchange: Exchange) -> None:
    """Say what there is to know about the sidecar."""
    exchange.peer.inspect(lambda told: exchange.tell(200, json.dumps(told).encode()))

"""Whether the sidecar lives, whether it has its coordinator, and what there is to ask."""

import json

from sidecar.http.exchange import Exchange

Facts = dict[str, int | str]


def live(exchange: Exchange) -> None:
    """Say that the process answers."""
    exchange.respond(200, b'{"live": true}')


def ready(exchange: Exchange) -> None:
    """Say whether tasks reach the coordinator at present."""

    def told(facts: Facts) -> None:
        open_ = facts["link"] == "open"
        body = {"ready": open_, "coordinator": facts["coordinator"]}
        if not open_:
            body["trouble"] = facts["link_trouble"]
        exchange.respond(200 if open_ else 503, json.dumps(body).encode())

    exchange.peer.inspect(told)

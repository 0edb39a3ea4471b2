"""docs/api.json has the schema of each /api/v1 endpoint, is current, and real answers follow it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from common.clock import iso8601
from exporter.web.app import application
from tests.support import receivers
from tests.support.api_schemas import API, EXPORTER, RECEIVER, Error, text
from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event
from tests.support.receivers import Receiver

PAGE = (API.parent / "api.md").read_text()
DAY = 86_400
WHO = {"reason": "launch day", "author": "asha"}
CONFIG = "{provider: {}, budget: {monthly_limit_usd: 900}}"


def test_the_schemas_are_current() -> None:
    assert API.read_text() == text(), "write them anew with `make golden`"


@pytest.fixture
def exporter(tmp_path: Path) -> Iterable[Exporter]:
    with Exporter(tmp_path, CONFIG, NOON, tokens=True) as running:
        booked = [event(id="a"), event(model="none-such", id="b")]
        booked += [event(at=NOON - ago * DAY) for ago in (1, 2)]
        running.post(booked, Authorization=f"Bearer {INGEST}")
        running.ledger.keep_balances({"USD": (12_345_678, 0)}).result(30)
        running.clock.advance(60)
        yield running


def ask(http: Any, line: str, body: Any = None, query: str = "", token: str = ADMIN) -> Any:
    method, path = line.split()
    headers = {"Authorization": f"Bearer {token}"}
    return http.request(method, path + query, json=body, headers=headers)


def routes(app: Any) -> set[str]:
    return {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/api/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    }


def test_every_endpoint_has_its_schema_and_is_on_the_page(
    exporter: Exporter, tmp_path: Path
) -> None:
    receiver = Receiver(tmp_path)
    receiver.close()
    assert routes(application(exporter.parts)) == EXPORTER.keys()
    assert routes(receiver.web.asgi([])) == RECEIVER.keys()
    missing = [line for line in (*EXPORTER, *RECEIVER) if f"`{line}`" not in PAGE]
    assert not missing


BODIES: dict[str, tuple[Any, str]] = {
    "GET /api/v1/report": (None, "?from=7d&to=today&by=day,month,roaster,field,model"),
    "GET /api/v1/reconcile": (None, "?since=7d"),
    "POST /api/v1/grants": ({**WHO, "amount_usd": "5"}, ""),
    "POST /api/v1/resets": (WHO, ""),
    "POST /api/v1/revokes": ({**WHO, "number": 1}, ""),
    "POST /api/v1/reprice": (WHO, ""),
    "POST /api/v1/carry": (
        {**WHO, "ledger": "0123456789abcdef", "month": "2027-01", "amount_usd": "41.30"},
        "",
    ),
}


@pytest.mark.parametrize("line", EXPORTER)
def test_real_answers_follow_the_schema_and_refusals_are_errors(
    exporter: Exporter, line: str
) -> None:
    ask(exporter.http, "POST /api/v1/grants", {**WHO, "amount_usd": "5"})
    ask(exporter.http, "POST /api/v1/resets", WHO)
    kind, (body, query) = EXPORTER[line][1], BODIES.get(line, (None, ""))
    answer = ask(exporter.http, line, body, query)
    assert answer.status_code == 200, answer.text
    msgspec.convert(answer.json(), kind)
    names = {item.encode_name for item in msgspec.structs.fields(kind)}
    assert answer.json().keys() <= names
    if line.startswith("POST"):
        refused = ask(exporter.http, line, {"colour": 1})
        assert refused.status_code == 400
        msgspec.convert(refused.json(), Error)


def test_what_a_reprice_found_follows_the_schema(tmp_path: Path) -> None:
    folder, price = (
        tmp_path / "x",
        "prices: {none-such: {input_usd_per_1k: 1, output_usd_per_1k: 1}}",
    )
    for config in ("", price):
        with Exporter(folder, config, NOON, tokens=True) as exporter:
            if not config:
                exporter.post([event(model="none-such")], Authorization=f"Bearer {INGEST}")
            answer = ask(exporter.http, "POST /api/v1/reprice", WHO).json()
            found = msgspec.convert(answer, EXPORTER["POST /api/v1/reprice"][1])
            assert bool(found.lines) == bool(config) != bool(found.withheld)


def test_the_receiver_s_answers_follow_the_schema(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    try:
        body = {**WHO, "mode": "pin", "level": "control", "until": iso8601(receivers.NOW + DAY)}
        for line, asked in (("POST /api/v1/override", body), ("GET /api/v1/history", None)):
            answer = ask(receiver.http, line, asked, token=receivers.ADMIN)
            assert answer.status_code == 200, answer.text
            found = msgspec.convert(answer.json(), RECEIVER[line][1])
    finally:
        receiver.close()
    assert found.changes[-1].request.startswith("pin control")


def references(found: Any, take: Callable[[str], object]) -> None:
    if isinstance(found, dict):
        take(found["$ref"]) if "$ref" in found else None
    for inner in found.values() if isinstance(found, dict) else found:
        if isinstance(inner, dict | list):
            references(inner, take)


def test_every_reference_in_the_file_resolves() -> None:
    document, found = json.loads(API.read_text()), set[str]()
    references(document, found.add)
    assert found == {f"#/schemas/{name}" for name in document["schemas"]}

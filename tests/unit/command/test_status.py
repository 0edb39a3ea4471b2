"""llm-budget status: the runbook's lines, its words, and exit codes for monitoring."""

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from command.main import main
from command.status import severity, summarize
from command.thresholds import thresholds
from common.clock import iso8601
from tests.support.budget_statuses import budget_status
from tests.support.ladders import shipped_ladder

LIMITS = thresholds()


def report(spend: str, **more: Any) -> dict[str, Any]:
    """An exporter's answer with some of its keys changed."""
    return budget_status("0").document() | {"spend_usd": spend} | more


@pytest.fixture
def serve() -> Iterator[Any]:
    """serve(answers) -> URL: path -> JSON content on a loopback port."""
    servers = []

    def start(answers: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = json.dumps(answers.get(path, {"error": "not here"})).encode()
                self.send_response(200 if path in answers else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("utilization", "word"),
    [
        ("0", "OK"),
        ("0.5", "OK"),
        ("0.500000000001", "INFO"),
        ("0.75", "INFO"),
        ("0.750000000001", "WARNING"),
        ("0.9", "WARNING"),
        ("0.900000000001", "CRITICAL"),
        ("1", "CRITICAL"),
        ("7", "CRITICAL"),
    ],
)
def test_the_words_straddle_the_thresholds_of_the_rules(utilization: str, word: str) -> None:
    assert severity(Decimal(utilization), LIMITS) == word


def test_ledgers_that_are_away_or_retired_are_named(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"level": "none", "ledgers": {"a1": "live", "b2": "away", "c3": "retired"}}
    url = serve({"/api/v1/status": report("10"), "/state": state})
    assert main(["status", "--exporter", url, "--receiver", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Ledger ")] == [
        "Ledger b2 is away.",
        "Ledger c3 is retired.",
    ]


def test_caps_stand_beside_the_spend_and_what_they_stop_beside_the_level(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of several exporters has a grant for the roaster; what only one lacks is no warning."""
    one = {"roaster_limits_usd": {"blue-tokai": "9"}, "field_limits_usd": {"notes": "10"}}
    urls = [
        serve({"/api/v1/status": report("5", **one, warnings=["both", "one"])}),
        serve(
            {
                "/api/v1/status": report(
                    "5", roaster_limits_usd={"blue-tokai": "14"}, warnings=["both"]
                )
            }
        ),
    ]
    away = serve({"/state": {"level": "none", "tunings": ["field_stop/notes"]}})
    flags = [flag for url in urls for flag in ("--exporter", url)]
    assert main(["status", *flags, "--receiver", away]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Degradation: none, field_stop/notes" in lines
    assert any(line.strip("│ ").startswith("notes") and "of 10" in line for line in lines), lines
    assert any("of 14" in line for line in lines)
    assert "both" in lines
    assert "one" not in lines


@pytest.mark.parametrize(
    ("spend", "code"), [("10", 0), ("60", 0), ("80", 1), ("95", 2), ("100", 2)]
)
def test_the_exit_status_says_what_the_lines_say(
    spend: str, code: int, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve({"/api/v1/status": report(spend), "/state": {"level": "control"}})
    assert main(["status", "--exporter", url, "--receiver", url]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Utilization: {int(spend)}.0%"
    assert lines[2] == f"Remaining Budget: ${100 - int(spend)}.00"
    assert "Degradation: control" in lines


def test_what_cannot_be_asked_is_unknown_to_a_monitor_and_not_critical(tmp_path: Path) -> None:
    (tmp_path / "services.yml").write_text("[")
    assert main(["status", "--data", str(tmp_path)]) == 3
    assert main(["history", "--data", str(tmp_path)]) == 2
    for words, code in (
        (["status", "--no-such"], 3),
        (["status", "--help"], 0),
        (["plan", "-x"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == code, words


def test_the_level_is_followed_by_what_it_saves(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    risen: dict[str, Any] = {
        "time": "2026-11-24T14:02:11.123Z",
        "from": "control",
        "level": "emergency",
        "why": "alert",
    }
    risen["alerts"] = ["LLMBudgetCritical"]
    sample = {"metric": {"entry": "emergency", "of": "calls"}, "value": [1.5, "0.42"]}
    answers = {
        "/api/v1/status": report("95"),
        "/state": {"level": "emergency"},
        "/api/v1/history": {"changes": [risen]},
        "/api/v1/query": {"status": "success", "data": {"result": [sample]}},
    }
    url = serve(answers)
    words = ["status", "--exporter", url, "--receiver", url, "--prometheus", url]
    assert main(words) == 2
    line = "Degradation: emergency since 2026-11-24T14:02Z (LLMBudgetCritical): -58% calls"
    assert line in capsys.readouterr().out.splitlines()
    # A service that is away or another one is named, and changes no exit status.
    for other in ([], {"data": []}, {"data": {"result": [{"metric": {}, "value": "x"}]}}):
        answers["/api/v1/query"] = other
        assert main([*words, "--json"]) == 2
        assert f"llm-budget status: no Prometheus at {url}" in capsys.readouterr().err
    del answers["/api/v1/query"]
    assert main([*words, "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["effect"] == {
        "since": risen["time"],
        "because": "LLMBudgetCritical",
    }
    refused = "llm-budget status: the Prometheus server refused with 404"
    assert printed.err.count(refused) == 1
    answers["/state"] = {"level": "none"}  # whose effect is not asked for
    assert main(words) == 2
    assert refused in capsys.readouterr().err


def test_what_is_held_is_told_from_what_the_alerts_ask_for(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = {"entry": "fallback", "reason": "hold", "detail": "clear", "until": iso8601(0)}
    wanted = {"entry": "fallback", "reason": "wanted", "detail": "the rules want it", "until": ""}
    other = {"entry": "roaster/a", "reason": "hold", "detail": "of another", "until": ""}
    state = {"level": "fallback", "evidence_keeps": "fallback", "alerts_ask_for": "none"}
    url = serve(
        {"/api/v1/status": report("1"), "/state": {**state, "holds": [hold, wanted, other]}}
    )
    words = ["status", "--exporter", url, "--receiver", url, "--prometheus", url]
    assert main(words) == 0
    assert (
        "\nDegradation: fallback\nThe alerts ask for: none.\n"
        "fallback is held until 1970-01-01T00:00:00Z: clear.\n"
    ) in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    held = "fallback is held until 1970-01-01T00:00:00Z: clear."
    told = json.loads(capsys.readouterr().out)
    assert (told["alerts_ask_for"], told["held"]) == ("none", [held])


def test_no_exporter_is_unknown_and_never_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--exporter", "http://127.0.0.1:1"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "Budget Status: UNKNOWN\n"
    assert "cannot reach the exporter at http://127.0.0.1:1/api/v1/status" in captured.err


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"spend_usd": "x"},
        report("x"),
        report("NaN"),
        report("9e999999"),
        report("1", by_field={"a": "NaN"}),
        report("1", day={}),
        report("1", config=None),
    ],
)
def test_an_answer_that_is_no_status_is_unknown_not_a_warning(
    answer: Any, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve({"/api/v1/status": answer, "/state": []})
    assert main(["status", "--exporter", url, "--receiver", url]) == 3
    captured = capsys.readouterr()
    assert captured.out == "Budget Status: UNKNOWN\n"
    assert "the answer is not an exporter's status" in captured.err


def test_a_proxy_of_the_environment_is_for_other_traffic(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve({"/api/v1/status": report("1"), "/state": {"level": "none"}})
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["status", "--exporter", url, "--receiver", url]) == 0


def test_one_of_two_exporters_away_is_unknown(serve: Any) -> None:
    url = serve({"/api/v1/status": report("1")})
    assert main(["status", "--exporter", url, "--exporter", "http://127.0.0.1:1"]) == 3


def test_exporters_add_up_exactly() -> None:
    both = summarize(
        [budget_status("0.1"), budget_status("0.200000000001", granted_usd=Decimal(5))], LIMITS
    )
    assert both["spend_usd"] == "0.300000000001"
    assert both["limit_usd"] == "105"
    assert both["by_roaster"] == {"blue-tokai": "0.300000000001"}


def test_a_write_off_gives_room_again() -> None:
    summary = summarize([budget_status("95", written_off_usd=Decimal(50))], LIMITS)
    assert summary["status"] == "OK"
    assert summary["remaining_usd"] == "55"


def test_a_limit_of_zero_is_critical() -> None:
    assert summarize([budget_status("0", limit="0")], LIMITS)["status"] == "CRITICAL"


def test_a_question_of_the_receiver_is_passed_on(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"level": "none", "question": shipped_ladder().question}
    url = serve({"/api/v1/status": report("1"), "/state": state})
    assert main(["status", "--exporter", url, "--receiver", url]) == 0
    assert f"\n{shipped_ladder().question}\n" in capsys.readouterr().out


def test_json_is_for_programs(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve({"/api/v1/status": report("80"), "/state": {"level": "none"}})
    assert main(["status", "--json", "--exporter", url, "--receiver", url]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "WARNING"


def test_a_config_that_was_not_reloaded_is_said(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"loaded": "2026-11-23T00:00:00.000Z", "problem": "budget.yml: no such zone"}
    url = serve({"/api/v1/status": report("1", config=problem), "/state": {"level": "none"}})
    assert main(["status", "--exporter", url, "--receiver", url]) == 0
    assert "The config was not reloaded: budget.yml: no such zone" in capsys.readouterr().out


def forecast(day: int) -> list[Any]:
    """Prometheus' vector: $84 of $70 to $96, out at half past noon."""
    values = {"today": 84, "low": 70, "high": 96}
    names = {f"budget:llm_forecast_usd:{name}": usd for name, usd in values.items()}
    found = [{"metric": {"__name__": name}, "value": [0, str(usd)]} for name, usd in names.items()]
    start = {"__name__": "budget:llm_day_start:timestamp_seconds"}
    out = {"__name__": "budget:llm_exhaustion:timestamp_seconds", "case": "expected"}
    found.append({"metric": start, "value": [0, str(day)]})
    found.append({"metric": out, "value": [0, str(day + 45_000)]})
    return found


def test_people_see_forecast_override_and_what_is_net(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Prometheus, or with its figures of another day, the forecast is unknown."""
    said = {"author": "ann", "mode": "pin", "level": "control", "until": None}
    state = {"level": "control", "alerts_ask_for": "none", "override": said}
    document = report("30", written_off_usd="10", granted_usd="5")
    start = document["day"]["start"]
    answers = {"/api/v1/status": document, "/state": state}
    for day, words in ((start, "$84.00 by the day's end ($70.00 to $96.00); runs out at 12:30 UTC"),
                       (start - 86_400, "unknown")):  # fmt: skip
        answers["/api/v1/query"] = {"data": {"result": forecast(day)}}
        url = serve(answers)
        where = ["--exporter", url, "--receiver", url, "--prometheus", url]
        assert main(["status", *where]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"Forecast: {words}" in lines
    assert "Spend: $30.00 gross, $10.00 written off: $20.00 net of $105.00" in lines
    assert "ann says pin control, until released." in lines


def test_the_dearest_ten_are_shown_and_the_rest_is_summed_up(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {f"r{number:03}": f"0.{300 - number:03}" for number in range(300)}
    url = serve({"/api/v1/status": report("5", by_roaster=rows), "/state": {"level": "none"}})
    where = ["--exporter", url, "--receiver", url]
    assert main(["status", *where]) == 0
    out = capsys.readouterr().out
    assert ("r009" in out, "r010" in out) == (True, False)
    assert "and 290 more, $42.20 in all (--all)" in out  # 1 + 2 + ... + 290, in tenths of a cent
    assert main(["status", "--all", *where]) == 0
    assert "r299" in capsys.readouterr().out


def test_colours_are_for_terminals(
    serve: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve({"/api/v1/status": report("5"), "/state": {"level": "none"}})
    for variable, coloured in ((None, False), ("FORCE_COLOR", True), ("NO_COLOR", False)):
        if variable:
            monkeypatch.setenv(variable, "1")
        assert main(["status", "--exporter", url, "--receiver", url]) == 0
        assert ("\x1b[32m" in capsys.readouterr().out) is coloured


def test_a_thousand_tunings_and_an_empty_account_are_a_line_each(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tunings = [f"roaster_stop/r{number:03}" for number in range(300)]
    amounts = {"amounts": {"USD": "0"}, "polled": 1.0, "usd": "0", "usual_day_usd": "3"}
    document = report("5", balance=amounts | {"days_left": 0.0})
    url = serve({"/api/v1/status": document, "/state": {"level": "none", "tunings": tunings}})
    assert main(["status", "--exporter", url, "--receiver", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    (told,) = (line for line in lines if line.startswith("Degradation: "))
    assert told.endswith("roaster_stop/r009, and 290 more tunings")
    assert "Provider's balance: 0 USD, 0.0 usual days" in lines

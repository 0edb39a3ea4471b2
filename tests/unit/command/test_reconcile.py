"""llm-budget reconcile: the balance, or the provider's export, against a ledger or its exporter."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from starlette.responses import JSONResponse

from command.main import main
from common.clock import SystemClock
from tests.support.exporters import Exporter, event, exporter_process, url
from tests.support.pages import serving

DAY = 86_400
CALL = {"prompt": 1_000_000, "completion": 0}  # $0.27
NOW = SystemClock().now() // DAY * DAY  # the last midnight in UTC


def day(ago: int) -> str:
    return f"{datetime.fromtimestamp(NOW, UTC).date() - timedelta(ago)}"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two calls two days ago, one yesterday; polled meanwhile."""
    with Exporter(tmp_path, "provider: {}", NOW - 2 * DAY) as exporter:
        for calls, balance in ((2, "10"), (1, "9.46"), (0, "9")):
            exporter.ledger.keep_balances({"USD": (int(Decimal(balance) * 10**6), 0)}).result(30)
            for _ in range(calls):
                exporter.book(event(**CALL, at=exporter.clock.now()))
            exporter.clock.advance(DAY)
    (tmp_path / "budget.yml").write_text("provider: {usd_per_unit: 0.5}")
    return tmp_path / "ledger.sqlite"


def say(
    ledger: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, list[list[str]], str]:
    """The exit status, the words of each line of standard output, standard error."""
    config = str(ledger.parent / "budget.yml")
    source = () if "--exporter" in flags else ("--ledger", str(ledger))
    status = main(["reconcile", "--config", config, *source, *flags])
    captured = capsys.readouterr()
    return status, [line.split() for line in captured.out.splitlines()], captured.err


def export(ledger: Path, text: str) -> tuple[str, ...]:
    path = ledger.parent / "export.csv"
    path.write_text(text)
    return "--csv", str(path)


def test_the_balance_and_the_books_stand_side_by_side(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines, err = say(ledger, capsys)
    assert (status, err) == (0, "")
    # The last poll is at midnight: the day before it ends there.
    assert [day(1), "1", "0", "0.27", "0.73"] in lines
    assert ["total", "1", "0", "0.81", "0.19"] in lines
    assert lines[-1][:5] == ["More", "was", "charged", "than", "booked,"]


def test_a_provider_s_daily_export_is_compared_day_by_day(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"user_id,utc_date,model,cost,currency\n1,{day(2)},chat,0.5,USD\n"
    text += f"1,{day(2)},reasoner,0.04,USD\n1,{day(1)},chat,0.30,\n"
    flags = export(ledger, text)
    status, lines, err = say(ledger, capsys, *flags, "--columns", "time=utc_date,cost_usd=cost")
    assert (status, err) == (0, "")
    assert [day(2), "0.54", "0.54", "0"] in lines
    assert [day(1), "0.3", "0.27", "0.03"] in lines
    assert ["total", "0.84", "0.81", "0.03"] in lines


def test_an_export_in_another_currency_is_converted_or_refused(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = export(ledger, f"time;cost;amount_currency\n{day(2)};1,08;cny\n")
    assert ["total", "0.54", "0.54", "0"] in say(ledger, capsys, *flags)[1]
    (ledger.parent / "budget.yml").write_text("provider: {}")
    status, lines, err = say(ledger, capsys, *flags)
    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert "line 2: the currency is CNY; to reconcile it set provider.usd_per_unit" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("when,what\n", "line 1: the columns must be time or minute, and cost_usd, not when, what"),
        (
            f"time,tokens\n{day(1)},7\n",
            "and cost_usd, not time, tokens; name others with --columns",
        ),
        ("minute,cost\n7,1\n", "tells minutes of no known day; it needs a column time"),
        ("time,cost\n1,1\n", "line 2: time '1' is not an ISO 8601 time"),
        ("time,cost\n", "has no lines after its header"),
        ("time,cost\n2019-01-01,1\n", "'2019-01-01' is not within the last 400 days"),
        (f"time,cost\n{day(-3)},1\n", "is not within the last 400 days"),
        (f"time,cost\n{day(1)},$3\n", "line 2: cost '$3' is not a number"),
        (f"time,cost\n{day(1)},1\n{day(1)}T09:00+08:00,1\n", "several zones (UTC+08:00, none)"),
    ],
)
def test_what_is_no_export_is_one_sentence(
    ledger: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    status, lines, err = say(ledger, capsys, *export(ledger, text))
    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert words in err


def test_days_out_of_the_range_are_counted(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = export(ledger, f"time,cost\n{day(2)},0.54\n{day(-1)},1\n")
    assert "2 days of the export are out of this range." in " ".join(
        word for line in say(ledger, capsys, *flags, "--since", day(1))[1] for word in line
    )
    status, _, err = say(
        ledger, capsys, *export(ledger, f"time,cost\n{day(2)},1\n"), "--since", "today"
    )
    assert (status, "has passed since then" in err) == (2, True)


def test_without_a_balance_it_says_so_and_an_export_is_compared_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Exporter(tmp_path, now=NOW - DAY) as exporter:
        exporter.book(event(**CALL))
    ledger = tmp_path / "ledger.sqlite"
    status, _, err = say(ledger, capsys)
    assert (status, err.count("\n"), "no balance was polled yet" in err) == (2, 1, True)
    lines = say(ledger, capsys, *export(ledger, f"time,cost\n{day(1)}T08:00Z,0.27\n"))[1]
    assert [day(1), "0.27", "0.27", "0"] in lines


def test_a_running_exporter_answers_the_same(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BUDGET_METRICS_TOKEN", "metrics-token-0123456789")
    with exporter_process(ledger.parent, "provider: {every_seconds: 9999}") as running:
        status, lines, err = say(ledger, capsys, "--json", "--exporter", url(running, ""))
        assert (status, err) == (0, "")
        found = json.loads(" ".join(word for line in lines for word in line))
        assert found["total"]["difference_usd"] == "0.19"
        bare = requests.get(url(running, "/api/v1/reconcile"), timeout=30)
        assert bare.status_code == 401


@pytest.mark.parametrize(
    ("stamp", "since", "zone"),
    [("{}T00:00:00+08:00", (), "UTC+08:00"), ("{} 23:30 -05:30", (), "UTC-05:30"),
     ("{}", ("--since", "{}T00:00+08:00"), "UTC+08:00"), ("{}", (), "UTC"),
     ("{}T00:00Z", ("--since", "{}T07:00+08:00"), "UTC")],
)  # fmt: skip
def test_days_are_those_of_the_export_s_own_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
    stamp: str, since: tuple[str, ...], zone: str,
) -> None:  # fmt: skip
    """A call at 20:00 in UTC is of the next day in Beijing."""
    with Exporter(tmp_path, now=NOW - DAY - 4 * 3600) as exporter:
        exporter.book(event(**CALL))
    ledger = tmp_path / "ledger.sqlite"
    then = datetime.fromtimestamp(NOW - DAY - 4 * 3600, UTC) + timedelta(hours=8 * ("+" in zone))
    text = f"start_time_iso,amount_value\n{stamp.format(then.date())},0.27\n"
    flags = [part.format(then.date()) for part in since]
    names = ("--columns", "time=start_time_iso,cost_usd=amount_value")
    status, lines, err = say(ledger, capsys, *export(ledger, text), *names, *flags)
    assert (status, err) == (0, "")
    assert [f"{then.date()}", "0.27", "0.27", "0"] in lines
    assert [line[-1] for line in lines if line[0] == "From"] == [f"{zone}."]


def test_a_day_that_the_export_leaves_out_was_not_charged(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = export(ledger, f"time,cost\n{day(3)},0\n{day(1)},0.27\n")
    assert [day(2), "0", "0.54", "-0.54"] in say(ledger, capsys, *flags)[1]


def test_another_program_or_version_is_one_sentence(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(JSONResponse({"causes": []})) as site:
        status, lines, err = say(ledger, capsys, "--exporter", site.url)
    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert "the answer is no reconcile; is another program" in err

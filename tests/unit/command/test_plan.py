"""llm-budget plan: the runbook's planning, with caps that budget.yml takes as they are."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.main import main
from command.plan import STEP, allocate
from common.clock import SystemClock
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD as USD
from exporter.config import load_config
from tests.support.exporters import Exporter, event

DAY = 86_400
CONFIG = "budget:\n  daily_limit_usd: 100\n  reserve_usd: 20\n"


def ledger(folder: Path, days: list[list[dict[str, object]]]) -> Path:
    """A ledger with the calls of so many days before today, the last one yesterday's."""
    with Exporter(folder, now=SystemClock().now() - len(days) * DAY) as exporter:
        for events in days:
            if events:
                exporter.book(*events)
            exporter.clock.advance(DAY)
        exporter.book(event(roaster="today", prompt=10_000_000))  # is not over: does not count
    return folder / "ledger.sqlite"


def calls(roaster: str, thousands: int) -> dict[str, object]:
    """$0.00027 for each thousand tokens."""
    return event(1000 * thousands, 0, roaster=roaster)


def plan(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    files = ("--ledger", str(folder / "ledger.sqlite"), "--config", str(folder / "budget.yml"))
    status = main(["plan", *files, *flags])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def block(out: str) -> str:
    return "  roasters:" + out.partition("\n  roasters:")[2]


def test_what_the_reserve_leaves_is_shared_by_use_and_the_block_is_ready_for_budget_yml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger(tmp_path, [[calls("naivo", 30), calls("rümi: #1", 10)], *[[]] * 5, [calls("naivo", 30)]])
    (tmp_path / "budget.yml").write_text(CONFIG)
    status, out, err = plan(tmp_path, capsys)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert "7 days USD" in out
    assert ["naivo", "0.0162", "0.002314285714", "68.5714"] in lines
    assert ["rümi:", "#1", "0.0027", "0.000385714285", "11.4285"] in lines
    assert "Mean day: $0.0027, 0.0% of the $80 available." in out
    (tmp_path / "budget.yml").write_text(CONFIG + block(out))
    caps = load_config(tmp_path / "budget.yml").budget.roasters
    assert caps == {"naivo": Decimal("68.5714"), "rümi: #1": Decimal("11.4285")}
    assert block(plan(tmp_path, capsys)[1]) == block(out), "what was given stays"


def test_explicit_caps_come_first_and_what_if_changes_limit_and_reserve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger(tmp_path, [*[[calls("naivo", 1), calls("rumi", 3), calls("capped", 6)]] * 7])
    (tmp_path / "budget.yml").write_text(CONFIG + "  roasters: {capped: 30, absent: 10}\n")
    assert block(plan(tmp_path, capsys)[1]) == (
        '  roasters:\n    "absent": 10\n    "capped": 30\n    "naivo": 10\n    "rumi": 30\n'
    )
    assert block(plan(tmp_path, capsys, "--limit", "60.5", "--reserve", "0.5")[1]) == (
        '  roasters:\n    "absent": 10\n    "capped": 30\n    "naivo": 5\n    "rumi": 15\n'
    )


def test_a_ledger_younger_than_a_week_is_divided_by_its_own_days_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger(tmp_path, [[calls("naivo", 10)], []])
    (tmp_path / "budget.yml").write_text(CONFIG)
    out = plan(tmp_path, capsys)[1]
    assert "2 days USD" in out
    assert ["naivo", "0.0027", "0.00135", "80"] in [line.split() for line in out.splitlines()]
    assert "perhaps not at that day's start" in out


def test_calls_without_a_roaster_get_no_cap_and_keep_their_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger(tmp_path, [[calls("naivo", 1), calls("", 1), calls("other", 2)]])
    (tmp_path / "budget.yml").write_text(CONFIG)
    assert block(plan(tmp_path, capsys)[1]) == '  roasters:\n    "naivo": 20\n'


@pytest.mark.parametrize(
    ("roasters", "flags", "words"),
    [
        ("{a: 70, b: 20}", (), "lower budget.yml's caps: they are $10 above $80"),
        ("{}", ("--reserve", "100"), "a reserve of $100 leaves nothing of $100 a day"),
        ("{}", ("--limit", "0"), "a reserve of $20 leaves nothing of $0 a day"),
        ("{}", ("--limit", "-5", "--reserve", "-9"), "a reserve of $-9 leaves nothing"),
        ("{}", ("--limit", "a lot"), "'a lot' is not an amount in USD"),
        ("{}", ("--limit", "nan"), "NaN is not an amount"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    roasters: str, flags: tuple[str, ...], words: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ledger(tmp_path, [[calls("naivo", 1)]])
    (tmp_path / "budget.yml").write_text(f"{CONFIG}  roasters: {roasters}\n")
    status, out, err = plan(tmp_path, capsys, *flags)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_ledger_without_a_day_that_is_over_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger(tmp_path, [])
    (tmp_path / "budget.yml").write_text(CONFIG)
    status, _, err = plan(tmp_path, capsys)
    assert (status, "no calls from" in err) == (2, True)


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@given(
    st.dictionaries(NAMES, st.integers(0, 10**20)),
    st.dictionaries(NAMES, st.integers(0, 100 * USD)),
    st.integers(1, 1000 * USD),
)
def test_caps_never_exceed_what_is_available_and_leave_less_than_a_step_each(
    used: dict[str, int], explicit: dict[str, int], available: int
) -> None:
    if sum(explicit.values()) > available:
        with pytest.raises(UserError, match="above"):
            allocate(used, explicit, available)
        return
    caps = allocate(used, explicit, available)
    assert all(caps[name] == cap for name, cap in explicit.items())
    assert (left := available - sum(caps.values())) >= 0
    shared = [name for name in used if used[name] and name not in explicit]
    if shared:
        assert left < STEP * len(shared)
    for one in shared:
        assert all(caps.get(one, 0) >= caps.get(two, 0) for two in shared if used[one] >= used[two])
    assert all(cap for name, cap in caps.items() if name not in explicit), "0 would stop it"

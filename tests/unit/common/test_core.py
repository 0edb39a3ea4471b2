"""Days, money, tokens, files and documents: what both services stand on."""

import os
import stat
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.auth import bearer_matches, read_token
from common.errors import UserError
from common.files import FileLock, replace_file
from common.http import bind, is_loopback, parse_listen
from common.money import picodollars, usd
from common.ports import port_holder
from common.yamlfile import dump, parse_document, read_document
from exporter.budget.day import BudgetCalendar


def instant(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("zone", "starts_at", "moment", "day", "hours"),
    [
        ("UTC", "00:00", "2026-11-23T23:59:59", "2026-11-23", 24),
        ("UTC", "06:00", "2026-11-23T05:59:59", "2026-11-22", 24),
        ("Europe/Berlin", "00:00", "2026-03-29T12:00:00", "2026-03-29", 23),  # spring
        ("Europe/Berlin", "00:00", "2026-10-25T12:00:00", "2026-10-25", 25),  # autumn
        ("Asia/Kolkata", "00:00", "2026-11-23T00:00:00", "2026-11-23", 24),  # half-hour zone
        ("Australia/Lord_Howe", "00:00", "2026-10-04T12:00:00", "2026-10-04", 23.5),
        ("America/Sao_Paulo", "00:00", "2018-11-04T12:00:00", "2018-11-04", 23),  # no midnight
    ],
)
def test_a_budget_day_is_the_zones_calendar_day(
    zone: str, starts_at: str, moment: str, day: str, hours: float
) -> None:
    calendar = BudgetCalendar(zone, time.fromisoformat(starts_at))
    found = calendar.day_of(instant(moment, zone))
    assert found == date.fromisoformat(day)
    assert calendar.end(found) - calendar.start(found) == hours * 3600


def test_a_start_in_the_gap_is_the_first_instant_after_it() -> None:
    calendar = BudgetCalendar("Europe/Berlin", time(2, 30))  # 02:30 does not exist on this day
    start = calendar.start(date(2026, 3, 29))
    assert datetime.fromtimestamp(start, UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_an_ambiguous_start_is_its_first_occurrence() -> None:
    calendar = BudgetCalendar("Europe/Berlin", time(2, 30))
    start = calendar.start(date(2026, 10, 25))
    assert datetime.fromtimestamp(start, UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe")


@given(
    st.sampled_from(ZONES),
    st.times(),
    st.integers(0, 4_000_000_000),
)
def test_days_tile_time_without_gap_or_overlap(zone: str, starts_at: time, moment: int) -> None:
    calendar = BudgetCalendar(zone, starts_at.replace(second=0, microsecond=0))
    day = calendar.day_of(moment)
    assert calendar.start(day) <= moment < calendar.end(day)
    assert calendar.day_of(calendar.end(day)) == day + timedelta(days=1)


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(UserError, match="Mars/Base"):
        BudgetCalendar("Mars/Base")


@given(st.integers(-(10**20), 10**20))
def test_money_goes_to_text_and_back_exactly(amount: int) -> None:
    assert picodollars(usd(amount)) == amount


@pytest.mark.parametrize("amount", ["0.0000000000001", "NaN", "Infinity", "ten"])
def test_money_finer_than_a_picodollar_or_no_number_is_refused(amount: str) -> None:
    with pytest.raises(UserError, match=amount):
        picodollars(amount)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    assert read_token("admin", file, {}) == "0123456789abcdef"
    assert read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN_FILE": str(file)}) is not None
    assert read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN": "x" * 16}) == "x" * 16
    assert read_token("admin", None, {}) is None


@pytest.mark.parametrize("token", ["short", "x" * 15, "0123456789abcdé-", "a" * 16 + "\x07"])
def test_a_weak_token_is_refused_and_never_shown(token: str) -> None:
    with pytest.raises(UserError) as refused:
        read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN": token})
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ("Bearer 0123456789abcdef", True),
        ("bearer 0123456789abcdef", True),
        ("Basic 0123456789abcdef", False),
        ("Bearer 0123456789abcdeg", False),
        ("Bearer \u20ac", False),
        ("Bearer", False),
        (None, False),
    ],
)
def test_only_the_right_bearer_token_matches(header: str | None, matches: bool) -> None:
    assert bearer_matches(header, "0123456789abcdef") is matches


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["config.yml"]


def test_a_failed_replacement_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["config.yml"]


def test_a_lock_is_exclusive_and_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    with (
        FileLock(path, "an exporter"),
        pytest.raises(UserError, match=r"ledger\.lock is locked: an exporter"),
    ):
        FileLock(path, "an exporter")
    FileLock(path, "an exporter").close()


@pytest.mark.parametrize("suffix", ["yml", "json"])
def test_decimals_survive_a_document_exactly(suffix: str) -> None:
    path = Path(f"x.{suffix}")
    document = {"a": Decimal("0.85"), "b": [1, True, None, "0.1"], "c": {"d": Decimal("100.0")}}
    assert parse_document(dump(document, path), path) == document


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [", "\t- x", "!!python/object:os.system x", "a: *x"]
)
def test_a_malformed_document_is_one_sentence_with_the_files_name(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.yml is not valid") as refused:
        read_document(path)
    assert "\n" not in str(refused.value)


def test_a_huge_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_document(path)


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert parse_listen("[::1]:8000") == ("::1", 8000)
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    for wrong in ("8000", ":8000", "h:x", "h:99999"):
        with pytest.raises(UserError, match="HOST:PORT"):
            parse_listen(wrong)


def test_a_port_that_is_taken_names_who_holds_it() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert f"(pid {os.getpid()})" in (port_holder(port) or "")
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*held by"):
            bind("127.0.0.1", port)

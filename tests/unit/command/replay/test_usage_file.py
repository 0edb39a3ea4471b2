"""Usage histories from CSV files, exact to the pico-dollar, each mistake named."""

import gzip
import resource
from decimal import Decimal
from pathlib import Path

import pytest

from command.replay.history import MAX_DAYS
from command.replay.usage_file import read_csv
from common.errors import UserError

USD = 10**12
PRICE = Decimal("0.001")


def write(folder: Path, text: str) -> Path:
    path = folder / "usage.csv"
    path.write_text(text)
    return path


def test_tokens_are_priced_summed_by_minute_and_missing_minutes_are_zero(tmp_path: Path) -> None:
    path = write(tmp_path, "minute,tokens\n2,1000\n0,1\n2,500\n")
    assert read_csv(path, PRICE).picodollars == [USD // 1000, 0, 3 * USD // 2]


def test_a_cost_column_needs_no_price_and_a_gz_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv.gz"
    path.write_bytes(gzip.compress(b"cost_usd,minute\n0.25,1\n"))
    assert read_csv(path, PRICE).picodollars == [0, USD // 4]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("minute,tokens\n0,1\n1,x\n", "line 3: tokens 'x'"),
        ("minute,tokens\n0,-1\n", "line 2: tokens '-1'"),
        ("minute,tokens\n0,nan\n", "line 2: tokens 'nan'"),
        ("minute,tokens\n0,1e400\n", "line 2: tokens '1e400'"),
        ("minute,tokens\n0\n", "line 2: tokens None"),
        ("minute,tokens\n0.5,1\n", "line 2: minute '0.5'"),
        ("minute,tokens\n-1,1\n", "line 2: minute '-1'"),
        (f"minute,tokens\n{MAX_DAYS * 1440},1\n", "line 2: minute '576000'"),
        ("time,tokens\n0,1\n", "line 2: time '0' is not an ISO 8601 time"),
        ("time,cost_usd\n2026-11-20T25:00,1\n", "line 2: time '2026-11-20T25:00'"),
        ("time,cost_usd\n0001-01-01T00:00+01:00,1\n", "line 2: time '0001-01-01T00:00+01:00'"),
        ("time,cost_usd\n2020-01-01,1\n2026-11-20,1\n", "spans more than 400 days"),
        ("when;what\n", "cost_usd or tokens, not when, what; name others with --columns"),
        ("", "line 1: the columns must be"),
        ("minute,tokens\n", "no lines after its header"),
    ],
)
def test_a_bad_line_is_named(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_csv(write(tmp_path, text), PRICE)
    assert line in str(caught.value)


def test_a_file_that_is_missing_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_csv(tmp_path / "usage.csv", PRICE)
    assert str(refused.value) == f"cannot read {tmp_path}/usage.csv: No such file or directory"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"minute,tokens\n" + b'"' * 200_000])
def test_what_is_no_csv_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"usage\.csv"):
        read_csv(path, PRICE)
    path = tmp_path / "usage.csv.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        read_csv(path, PRICE)


def test_a_last_day_whose_last_hour_is_quiet_is_whole(tmp_path: Path) -> None:
    assert len(read_csv(write(tmp_path, "minute,tokens\n1380,5\n"), PRICE).picodollars) == 1440
    assert len(read_csv(write(tmp_path, "minute,tokens\n1379,5\n"), PRICE).picodollars) == 1380


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (b"1" * 1_000_000, "line 2: 16384 characters or more"),
        (b"\n" * 1_000_000, "more than 1152000 lines"),
    ],
)
def test_a_small_gz_of_gigabytes_is_one_sentence_at_once(
    piece: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "usage.csv.gz"
    packed = gzip.compress(piece)  # members follow one another: 400 times as long, unpacked
    path.write_bytes(gzip.compress(b"minute,tokens\n") + packed * 400)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=words):
        read_csv(path, PRICE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


def test_a_damaged_gz_is_one_sentence_and_a_byte_order_mark_is_no_name(tmp_path: Path) -> None:
    packed = bytearray(
        gzip.compress(b"minute,tokens\n" + b"".join(b"%d,7\n" % m for m in range(999)))
    )
    packed[500:600] = bytes(100)
    path = tmp_path / "damaged.csv.gz"
    path.write_bytes(packed)
    with pytest.raises(UserError, match="cannot read"):
        read_csv(path, PRICE)
    assert read_csv(write(tmp_path, "\ufeffminute,tokens\n0,0\n"), PRICE).picodollars == [0]


MORNING = [0] * 480 + [USD // 4, USD // 2]  # at 8:00 and 8:01 of the first day


@pytest.mark.parametrize(
    "text",
    [
        "time,cost_usd\n2026-11-20T08:00:30Z,0.25\n2026-11-20T08:01:00Z,0.5\n",
        "time,cost_usd\n2026-11-20T16:00:30+08:00,0.25\n2026-11-20 03:01:59 -0500,0.5\n",
        "\ufefftime, cost_usd\r\n2026-11-20 08:00:30 UTC, 0.25\r\n2026-11-20 08:01, 0.5\r\n",
        "model\ttime\tcost\nm\t2026-11-20T08:01:00.123456Z\t0.5\nm\t20261120T080030Z\t0,25\n",
        'time;cost_usd;note\n2026-11-20T08:01;0,50;"a;b"\n\n2026-11-20T08:00;0,250;\n',
        '"cost_usd" , "time"\n0.25, "2026-11-20T08:00Z"\n0.5, "2026-11-20T08:01Z"\n',
    ],
)
def test_times_of_any_zone_with_any_separator_are_minutes_of_utc(text: str, tmp_path: Path) -> None:
    history = read_csv(write(tmp_path, text), PRICE)
    assert history.picodollars == MORNING
    assert (history.note, history.first_whole) == ("", 1)


def test_other_names_are_told_and_named_when_they_are_not_there(tmp_path: Path) -> None:
    names = {"time": "created_at", "cost_usd": "cost"}
    path = write(tmp_path, "id,created_at,cost\n1,2026-11-20T08:00,0.25\n2,2026-11-20T08:01,0.5\n")
    assert read_csv(path, PRICE, names).picodollars == MORNING
    with pytest.raises(UserError) as caught:
        read_csv(path, PRICE, {"time": "at", "cost_usd": "cost"})
    assert "(time=at and cost_usd=cost), not id, created_at, cost;" in str(caught.value)


@pytest.mark.parametrize("clock", ["", "T00:00:00Z", " 00:00:00+08:00"])
def test_an_export_by_days_is_spread_and_says_so(clock: str, tmp_path: Path) -> None:
    text = f"time,cost_usd\n2026-11-21{clock},1\n2026-11-20{clock},3\n2026-11-21{clock},1\n"
    history = read_csv(write(tmp_path, text), PRICE)
    assert [sum(history.day(number)) for number in range(history.days)] == [3 * USD, 2 * USD]
    assert max(history.day(0)) - min(history.day(0)) <= 1
    assert "a line a day: each day's spend is spread evenly" in history.note


def test_minutes_count_from_the_first_midnight(tmp_path: Path) -> None:
    history = read_csv(write(tmp_path, "minute,tokens\n3000,5\n"), PRICE)
    assert (len(history.picodollars), history.first_whole) == (3001, 0)

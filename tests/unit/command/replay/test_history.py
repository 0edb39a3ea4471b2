"""Usage histories: CSV files and ledgers, exact to the pico-dollar, each mistake named."""

import gzip
import resource
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from command.replay.history import MAX_DAYS, read_csv, read_ledger
from common.errors import UserError
from exporter.ledger.schema import open_ledger

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
        ("time,tokens\n0,1\n", "line 1: the columns must be"),
        ("", "line 1: the columns must be"),
        ("minute,tokens\n", "no lines after its header"),
    ],
)
def test_a_bad_line_is_named(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_csv(write(tmp_path, text), PRICE)
    assert line in str(caught.value)


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


def test_a_ledger_gives_its_days_spread_evenly_to_the_last_picodollar(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    db = open_ledger(path)
    zeros = ", ".join(["0"] * 8)
    for day, cost in (("2026-11-20", 1441), ("2026-11-22", 2880), ("2026-11-23", 7)):
        db.execute(
            "INSERT INTO accounts (day, roaster, field, model, price_version, success, error, "
            "rate_limited, cached, fallback, input_tokens, cached_input_tokens, output_tokens, "
            "cost_picodollars, estimated_cost_picodollars, late_cost_picodollars, batch_items, "
            f"batch_slots) VALUES (?, 'r', 'f', 'm', 0, {zeros}, ?, 0, 0, 0, 0)",
            (str(date.fromisoformat(day)), cost),
        )
    db.close()
    history = read_ledger(path)
    assert [sum(history.day(number)) for number in range(history.days)] == [1441, 0, 2880, 7]
    assert history.day(0)[:2] == [2, 1]


def test_a_ledger_without_cost_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path / "empty.sqlite").close()
    with pytest.raises(UserError, match="no cost yet"):
        read_ledger(tmp_path / "empty.sqlite")
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(write(tmp_path, "minute,tokens\n"))
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(tmp_path / "none.sqlite")

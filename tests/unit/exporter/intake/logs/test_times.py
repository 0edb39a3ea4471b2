"""Every way in which programs write the same moment."""

from datetime import datetime
from typing import Any

import pytest

from exporter.intake.logs.mapping import iso_time
from tests.support.exporters import NOON

SECONDS = int(NOON)  # 2027-01-15T12:00:00Z


@pytest.mark.parametrize(
    ("value", "fraction"),
    [
        (SECONDS, 0),
        (SECONDS + 0.5, 0.5),
        (SECONDS * 1000 + 250, 0.25),
        (SECONDS * 10**6 + 250_000, 0.25),
        (SECONDS * 10**9 + 250_000_000, 0.25),
        (str(SECONDS), 0),
        (f"{SECONDS}.25", 0.25),
        (str(SECONDS * 1000), 0),
        (f"{SECONDS * 1000}.5", 0.0005),
        (str(SECONDS * 10**6), 0),
        (str(SECONDS * 10**9), 0),
        ("2027-01-15T12:00:00Z", 0),
        ("2027-01-15t12:00:00z", 0),
        ("2027-01-15 12:00:00 UTC", 0),
        ("2027-01-15 12:00:00 GMT", 0),
        ("2027-01-15 12:00:00.250 utc", 0.25),
        ("2027-01-15T12:00:00.250000001Z", 0.25),
        ("2027-01-15 12:00:00,250 +0000", 0.25),
        ("2027-01-15T12:00:00+0000", 0),
        ("2027-01-15T17:30:00+05:30", 0),
        ("2027-01-15T17:30:00+0530", 0),
        ("2027-01-15T13:00:00+01", 0),
        ("2027-01-15 12:00:00.250000001 +0000 UTC", 0.25),
        ("2027-01-15T13:00:00+01:00[Europe/Paris]", 0),
        ("2027/01/15 12:00:00Z", 0),
        ("20270115T120000Z", 0),
        (" 2027-01-15T12:00:00Z ", 0),
    ],
)
def test_a_moment(value: Any, fraction: float) -> None:
    moment = datetime.fromisoformat(iso_time(value, None))
    assert moment.timestamp() == pytest.approx(NOON + fraction, abs=1e-6)


def test_a_zone_is_for_times_that_name_none() -> None:
    for text in ("2027-01-15 17:30:00,000", "2027/01/15 17:30:00", "2027-01-15t17:30:00"):
        assert iso_time(text, "Asia/Kolkata") == "2027-01-15T17:30:00+05:30"
        assert datetime.fromisoformat(iso_time(text, None)).tzinfo is None
    assert iso_time("2027-01-15 12:00:00 UTC", "Asia/Kolkata") == "2027-01-15T12:00:00+00:00"


@pytest.mark.parametrize("value", ["noon", "12", "20270115120000", "2027-13-01", "\ud83d", 1e300])
def test_what_is_no_time_is_not_guessed(value: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        iso_time(value, None)


def test_what_is_neither_number_nor_text_stays() -> None:
    assert iso_time(True, None) is True
    assert iso_time(None, None) is None

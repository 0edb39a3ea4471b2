"""Money: text to integer pico-dollars and back, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.money import picodollars, shown, usd


@given(st.integers(-(10**20), 10**20))
def test_money_goes_to_text_and_back_exactly(amount: int) -> None:
    assert picodollars(usd(amount)) == amount


@pytest.mark.parametrize("amount", ["0.0000000000001", "NaN", "Infinity", "ten"])
def test_money_finer_than_a_picodollar_or_no_number_is_refused(amount: str) -> None:
    with pytest.raises(UserError, match=amount):
        picodollars(amount)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0", "$0.00"), ("-0", "$0.00"), ("0.0169", "$0.0169"), ("1204", "$1,204.00"),
        ("-0.03", "-$0.03"), ("-0.001", "-$0.001"), ("0.1", "$0.10"), ("0.126", "$0.13"),
        ("0.09999", "$0.10"), ("-0.126", "-$0.13"), ("1E+3", "$1,000.00"), ("999.999", "$1,000.00"),
        ("0.00000000000123456", "$0.0000000000012"), ("1e12", "$1,000,000,000,000.00"),
    ],
)  # fmt: skip
def test_money_is_shown_as_money(amount: str, expected: str) -> None:
    assert shown(Decimal(amount)) == expected

"""Money: text to integer pico-dollars and back, exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.money import picodollars, usd


@given(st.integers(-(10**20), 10**20))
def test_money_goes_to_text_and_back_exactly(amount: int) -> None:
    assert picodollars(usd(amount)) == amount


@pytest.mark.parametrize("amount", ["0.0000000000001", "NaN", "Infinity", "ten"])
def test_money_finer_than_a_picodollar_or_no_number_is_refused(amount: str) -> None:
    with pytest.raises(UserError, match=amount):
        picodollars(amount)

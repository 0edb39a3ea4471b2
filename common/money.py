"""Money is integer pico-dollars (1e-12 USD): no float ever accumulates."""

from decimal import Decimal, InvalidOperation

from common.errors import UserError

PICODOLLARS_PER_USD = 10**12
MAX_USD = 10**12  # beyond it an amount is a mistake, and 1e999999 is an attack


def picodollars(usd: Decimal | int | str) -> int:
    """Raises UserError: not a finite number, finer than 1 pico-dollar, beyond a trillion USD."""
    try:
        amount = Decimal(usd)
    except InvalidOperation as error:
        raise UserError(f"{usd!r} is not an amount in USD") from error
    if not amount.is_finite():
        raise UserError(f"{amount} is not an amount in USD")
    if abs(amount) > MAX_USD:
        raise UserError(f"{usd} USD is more than anybody has")
    scaled = amount.scaleb(12)
    if scaled != scaled.to_integral_value():
        raise UserError(f"{usd} USD is finer than 1 pico-dollar (1e-12 USD), the ledger's unit")
    return int(scaled)


def usd(pico: int) -> str:
    """Pico-dollars as an exact decimal string of USD without trailing zeros, e.g. "60.3"."""
    return f"{Decimal(pico).scaleb(-12).normalize():f}"


def shown(amount: Decimal) -> str:
    """USD for people: $1,204.00, -$0.03; below ten cents with the decimals that say something."""
    places = max(4, 1 - amount.adjusted()) if amount and abs(amount) < Decimal("0.1") else 2
    digits = f"{abs(round(amount, places)):,f}"
    whole, _, rest = digits.partition(".")
    return f"{'-' * (amount < 0)}${whole}.{rest.rstrip('0'):0<2}"

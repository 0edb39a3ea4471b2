"""The provider's balance as it was polled: a row for each change, the last 100,000 of them."""

import sqlite3
from decimal import Decimal
from typing import NamedTuple

from common.errors import UserError
from common.money import PICODOLLARS_PER_USD

KEPT = 100_000  # 69 days in which each minute's poll finds a change; 7 MB
MILLIONTHS = 10**6
USD = "USD"


class Balance(NamedTuple):
    """One currency's, in millionths of its unit, from the poll that found it to the last that did.

    granted: the part of it that the provider gave, and takes back when it expires.
    """

    id: int | None
    currency: str  # ISO 4217
    total: int
    granted: int
    since: float  # Unix seconds
    until: float

    def in_usd(self, usd_per_unit: Decimal | None) -> "Balance":
        """The same in pico-dollars. Raises UserError when it is no USD and there is no rate."""
        if (rate := Decimal(1) if (one := self.currency) == USD else usd_per_unit) is None:
            mend = f"set provider.usd_per_unit, the USD for a {one}"
            raise UserError(f"the account is in {one}: {mend}")
        to_pico = rate * PICODOLLARS_PER_USD / MILLIONTHS
        return self._replace(total=int(self.total * to_pico), granted=int(self.granted * to_pico))


def newest(db: sqlite3.Connection) -> dict[str, Balance]:
    """The last of each currency."""
    query = "SELECT * FROM balances WHERE id IN (SELECT max(id) FROM balances GROUP BY currency)"
    return {row[1]: Balance(*row) for row in db.execute(query)}


def keep(
    db: sqlite3.Connection, known: dict[str, Balance], found: dict[str, tuple[int, int]], now: float
) -> dict[str, Balance]:  # fmt: skip
    """Record a poll inside the caller's transaction; found: total and granted by currency."""
    kept = dict(known)
    for currency, amounts in found.items():
        row, last = Balance(None, currency, *amounts, now, now), known.get(currency)
        if last and last[2:4] == amounts:
            row = last._replace(until=now)
        query = "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?, ?, ?)"
        kept[currency] = row._replace(id=db.execute(query, row).lastrowid)
    last_id = max((row.id or 0 for row in kept.values()), default=0)
    db.execute("DELETE FROM balances WHERE id <= ? AND until < ?", (last_id - KEPT, now))
    return kept

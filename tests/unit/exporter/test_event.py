"""Usage events; what is refused and why is in intake/test_http.py."""

from exporter.event import OUTCOMES
from exporter.ledger.books import COLUMNS
from sdk.client import OUTCOMES as CLIENT_OUTCOMES


def test_accounts_and_client_know_every_outcome() -> None:
    assert set(OUTCOMES) <= set(COLUMNS)
    assert set(CLIENT_OUTCOMES) == set(OUTCOMES)

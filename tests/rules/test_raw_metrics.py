"""Every raw metric that the rules read is on a real page of the exporter or the receiver."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from common import names
from exporter.config import Provider
from exporter.event import OUTCOMES
from tests.support.exporters import Exporter, event
from tests.support.receivers import Receiver, alert
from tests.support.rule_files import names_in, published, recorded, rules

CONFIG = """
budget: {roasters: {blue-tokai: 9}, fields: {notes: 9}, monthly_limit_usd: 900}
provider: {balance_url: 'http://127.0.0.1:1/'}
"""
# Only once a provider has answered: tests/unit/exporter/metrics/test_provider.py.
# Only once a ledger is retired, and its month handed over; only once money was granted to one
# roaster, or it has past days.
ON_DEMAND = {names.PROVIDER_BALANCE, names.LEDGER_RETIRED, names.ROASTER_GRANTED}
ON_DEMAND |= {names.MONTH_CARRIED, names.HISTORY_SPEND, names.HISTORY_DAY_START}


def exporter_page(folder: Path) -> set[str]:
    """Names of the samples after one event of each kind."""
    with Exporter(folder, CONFIG) as exporter:
        exporter.book(
            event(batch_items=4, batch_slots=5, duration_seconds=1.0),
            event(outcome="error"),
            event(model="a-model-that-nobody-prices"),
            *({"outcome": outcome} for outcome in ("cached", "fallback", "rate_limited")),
        )
        exporter.parts.provider.poll(Provider(balance_url="http://127.0.0.1:1/"))
        return {name for name, _ in exporter.page()}


def receiver_page(folder: Path) -> set[str]:
    receiver = Receiver(folder)
    try:
        receiver.webhook(alert("control"))
        text = receiver.http.get("/metrics").text
    finally:
        receiver.close()
    families = text_string_to_metric_families(text)
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_that_a_rule_reads_is_on_a_page(tmp_path: Path) -> None:
    read = set().union(*(names_in(str(rule["expr"])) for rule in rules()))
    raw = read - recorded() - {"up"}
    assert published() >= ON_DEMAND
    assert raw - ON_DEMAND <= exporter_page(tmp_path / "e") | receiver_page(tmp_path)


def test_every_outcome_and_token_type_that_a_rule_names_exists() -> None:
    """A misspelt label value selects nothing, for ever."""
    text = "\n".join(str(rule["expr"]) for rule in rules())
    for label, known in (("outcome", OUTCOMES), ("type", names.TOKEN_TYPES)):
        values = re.findall(rf'\b{label}=~?"([^"]+)"', text)
        assert values
        assert set("|".join(values).split("|")) <= set(known)

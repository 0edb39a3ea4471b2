"""Where the checkout's files lie, and the data that `llm-budget up` keeps beside them."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BUDGET = REPOSITORY / "budget.yml"
CONTACTS = REPOSITORY / "contacts.yml"
RULES = REPOSITORY / "rules"
DASHBOARDS = REPOSITORY / "dashboards"
ALERTMANAGER = REPOSITORY / "alertmanager"
LADDER = ALERTMANAGER / "degradation.yml"
BASELINE = ALERTMANAGER / "llm_config.yml"
DATA = REPOSITORY / "data"
LEDGER = DATA / "ledger" / "ledger.sqlite"

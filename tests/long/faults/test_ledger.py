"""tests/properties/test_ledger.py, forty times as long."""

import pytest

from tests.support.ledger_machine import run_ledger_machine


@pytest.mark.timeout(3600)
def test_the_ledger_equals_the_model_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    run_ledger_machine(1000, monkeypatch)

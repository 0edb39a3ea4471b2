"""Whatever happens to a ledger, it equals a reference model that is a list of what was booked."""

import pytest

from tests.support.examples import examples
from tests.support.ledger_machine import run_ledger_machine


@pytest.mark.hypothesis
def test_the_ledger_equals_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    run_ledger_machine(examples(25), monkeypatch)

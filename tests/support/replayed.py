"""A replay whose days are easy to judge by hand."""

from decimal import Decimal

from command.replay.history import History
from command.replay.replay import Replay

USD = 10**12
PREDICTED = "LLMBudgetPredictedExhaustion"


def judged_example() -> Replay:
    """Day 0 spends $10; day 1 twice that; day 2 is half over. The limit is $15."""
    minutes = [USD // 144] * 1440 + [USD // 72] * 1440 + [USD // 144] * 720
    forecast = {minute: 12.5 if minute < 1440 else 16.0 for minute in range(0, 3600, 10)}
    firing = {
        PREDICTED: [*range(1200, 1450, 10), *range(1500, 1600, 10), 1700],
        "LLMBudgetWarning": [2800],
    }
    return Replay(History(minutes), Decimal(15), 10, forecast=forecast, firing=firing)

"""Price lists in a test, and what a token costs on them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporter.budget.day import BudgetCalendar
from exporter.config import load_config
from exporter.prices.pricelist import PriceList
from tests.support.exporters import write_config

# DeepSeek's list of 2025-02-08 (per million: 0.27, cached 0.07, output 1.10) with the off-peak
# discount that began on 2025-02-26 (half price, 16:30-00:30 UTC), and R1 (0.55, 0.14, 2.19; a
# quarter of it, off-peak). Sources: api-docs.deepseek.com/quick_start/pricing of that time.
DEEPSEEK_2025 = """
prices:
  deepseek-chat:
    - {input_usd_per_1k: 0.00014, cached_input_usd_per_1k: 0.000014, output_usd_per_1k: 0.00028}
    - valid_from: 2025-02-08T16:00Z
      input_usd_per_1k: 0.00027
      cached_input_usd_per_1k: 0.00007
      output_usd_per_1k: 0.00110
    - valid_from: 2025-02-26T16:30Z
      input_usd_per_1k: 0.00027
      cached_input_usd_per_1k: 0.00007
      output_usd_per_1k: 0.00110
      windows:
        - from_utc: 16:30
          to_utc: 00:30
          input_usd_per_1k: 0.000135
          cached_input_usd_per_1k: 0.000035
          output_usd_per_1k: 0.00055
  deepseek-reasoner:
    input_usd_per_1k: 0.00055
    cached_input_usd_per_1k: 0.00014
    output_usd_per_1k: 0.00219
    windows:
      - from_utc: 16:30
        to_utc: 00:30
        input_usd_per_1k: 0.000135
        cached_input_usd_per_1k: 0.000035
        output_usd_per_1k: 0.00055
"""
UTC_DAY = BudgetCalendar()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def price_list(folder: Path, text: str) -> PriceList:
    config = load_config(write_config(folder, text))
    return PriceList(config.prices, config.budget.calendar)


def rates(prices: PriceList, model: str, moment: str, **asked: Any) -> tuple[int, int, int] | None:
    """Pico-dollars per token: input, cached input, output."""
    found = prices.find(model, asked.pop("provider", "deepseek"), at(moment), **asked).get("")
    return found and (found.input, found.cached_input, found.output)


NONE = PriceList({}, UTC_DAY)

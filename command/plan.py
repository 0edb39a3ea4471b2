"""`llm-budget plan`: the daily budget shared among roasters by what they used, as caps."""

import argparse
import json
from datetime import date

from command.flags import command, file_flag, flag, print_table
from command.paths import BUDGET
from command.report import SOURCE, ask
from common.errors import UserError
from common.money import picodollars, usd
from common.names import OTHER, UNKNOWN
from exporter.config import load_config

STEP = 10**8  # pico-dollars; caps are rounded down to $0.0001, so that they never exceed the whole


@command(
    "share the daily budget among roasters, by seven days' use",
    flag("--limit", metavar="USD", help="what if it were this? default: budget.yml's"),
    flag("--reserve", metavar="USD", help="kept back; default: budget.yml's"),
    file_flag("--config", BUDGET),
    *SOURCE,
)
def plan(arguments: argparse.Namespace) -> int:
    """The last seven days' use, and daily caps by it, ready for budget.yml; its own caps first."""
    budget = load_config(arguments.config).budget
    limit = picodollars(arguments.limit or budget.daily_limit_usd)
    available = limit - (reserve := picodollars(arguments.reserve or budget.reserve_usd))
    if reserve < 0 or available <= 0:
        raise UserError(f"a reserve of ${usd(reserve)} leaves nothing of ${usd(limit)} a day")
    found = ask(arguments, "7d", "1d", "roaster")
    first, last = map(date.fromisoformat, (max(found["from"], found["begins"]), found["to"]))
    used = {row["roaster"]: picodollars(row["cost_usd"]) for row in found["rows"]}
    mean = sum(used.values()) // (days := (last - first).days + 1)
    caps = allocate(used, {n: picodollars(cap) for n, cap in budget.roasters.items()}, available)
    both = ((name, used.get(name, 0), caps.get(name, 0)) for name in used | caps)
    rows = ((name, usd(cost), usd(cost // days), usd(cap)) for name, cost, cap in both)
    print_table(("roaster", f"{days} days USD", "mean day USD", "cap USD"), rows)
    print(f"Mean day: ${usd(mean)}, {mean / available:.1%} of the ${usd(available)} available.")
    print(*found["notes"], "", sep="\n")
    print("  roasters:")
    for name in sorted(caps.keys() - {OTHER, UNKNOWN}):
        print(f"    {json.dumps(name, ensure_ascii=False)}: {usd(caps[name])}")
    return 0


def allocate(used: dict[str, int], given: dict[str, int], available: int) -> dict[str, int]:
    """Daily caps in pico-dollars: those given, the rest by use. UserError: they are too much."""
    if (left := available - sum(given.values())) < 0:
        raise UserError(f"lower budget.yml's caps: they are ${usd(-left)} above ${usd(available)}")
    free = {name: cost for name, cost in used.items() if cost and name not in given}
    shares = {n: left * cost // sum(free.values()) // STEP * STEP for n, cost in free.items()}
    return given | {name: share for name, share in shares.items() if share}  # 0 would stop it

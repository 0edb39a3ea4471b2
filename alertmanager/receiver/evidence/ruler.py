"""What the rules' records say: how late they come, of which day they are, which ledgers live."""

from dataclasses import dataclass, replace

from common.names import LEDGER_FRESH, LEDGER_SPEND_TODAY, LEDGER_WRITABLE, RULES_DAY

EVALUATIONS = 3  # what is younger than so many evaluations is fresh
SLACK_SECONDS = 1.0  # beyond it, for the way and for rounding
MAX_TEXT_LENGTH = 64  # an id has 16 characters, the longest zone and an hour 43
MAX_SCRAPES_SECONDS = 180.0  # as in ledger:llm_evidence:fresh
# By fact. timestamp() of a plain selector is the samples' own time. scrapes: three intervals of the
# slowest exporter, once a quarter of an hour shows it.
FACTS = {
    "scrapes": (
        f"max(2700 / count_over_time({LEDGER_WRITABLE}[15m]) and {LEDGER_WRITABLE} offset 15m)"
    ),
    "day": f"min({RULES_DAY})",
    "day_at": f"min(timestamp({RULES_DAY}))",
    "live": f"timestamp({LEDGER_FRESH}) and {LEDGER_FRESH} == 1",
    "spent": f"timestamp({LEDGER_SPEND_TODAY})",
}
FACTS_QUERY = " or ".join(
    f'label_replace({expression}, "fact", "{fact}", "", "")' for fact, expression in FACTS.items()
)

Rows = list[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Ruler:
    """How a Prometheus evaluates the ladder's rules, and what their fresh records say.

    interval, delay: seconds between evaluations (of the slowest group); of --ruler-delay.
    scrapes: seconds of three scrapes of an exporter, as measured; 0 while that is not known.
    lag: seconds by which the newest record lies behind the last evaluation; None without records.
    day_start: the budget day that the records are of, Unix seconds.
    live, spent: ledgers that were scraped just now; ledgers that the day's spend holds.
    """

    interval: float = 0.0
    delay: float = 0.0
    lag: float | None = None
    day_start: float | None = None
    live: frozenset[str] = frozenset()
    spent: frozenset[str] = frozenset()
    scrapes: float = 0.0

    @property
    def settling(self) -> float:
        """Seconds after which its records know of what happened before."""
        return EVALUATIONS * self.interval + self.delay

    @property
    def least_hold(self) -> float:
        """Seconds after which a ledger that vanished without a word has been noticed."""
        return max(EVALUATIONS * self.interval, self.scrapes) + self.delay

    def problem(self) -> str | None:
        """A sentence when its records come later than the flag allows."""
        if self.lag is None or self.lag <= self.interval + self.delay + SLACK_SECONDS:
            return None
        return (
            f"its records lie {self.lag:.0f} s behind its evaluations, more than the interval of "
            f"{self.interval:g} s and --ruler-delay {self.delay:g}: if rule_query_offset or the "
            "store delays them, raise that flag"
        )


def ruler_of(rows: Rows, ruler: Ruler, evaluated_at: float, fresh: tuple[float, float]) -> Ruler:
    """What a ruler's records say. rows: labels and value of the query's samples.

    evaluated_at: its last evaluation. fresh: what was recorded after the first of both times and
    not after the second counts.
    """
    found: dict[str, dict[str, float]] = {fact: {} for fact in FACTS}
    for labels, value in rows:
        found.get(labels.get("fact", ""), {})[peer_text(labels.get("ledger", ""))] = value
    scrapes, days, *times = found.values()
    ruler = replace(ruler, scrapes=min(max(0.0, *scrapes.values(), 0.0), MAX_SCRAPES_SECONDS))
    newest = max((at for fact in times for at in fact.values()), default=None)
    lag = None if newest is None else max(0.0, evaluated_at - newest)
    day = days.get("", -1.0) if _within(found["day_at"], fresh) else -1.0
    if not 0 <= day <= fresh[1]:  # nan is not either
        return replace(ruler, lag=lag, live=_within(found["live"], fresh))
    # Before the records have settled on a new day, what they hold may be yesterday's spend.
    spent = _within(found["spent"], (max(fresh[0], day + ruler.settling), fresh[1]))
    return replace(ruler, lag=lag, day_start=day, live=_within(found["live"], fresh), spent=spent)


def peer_text(text: str) -> str:
    """A ledger's id or a calendar as it may be kept, logged and shown, whatever a peer says."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT_LENGTH]


def _within(times: dict[str, float], fresh: tuple[float, float]) -> frozenset[str]:
    return frozenset(name for name, at in times.items() if fresh[0] < at <= fresh[1])

"""docs/forecast.md's formula in Python: what the rules must say of a given history."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MEMORY, NOISE, PRIOR, PRIOR_DAYS, BAND = 0.7, 0.01, 0.25, 3, 1.9


@dataclass(frozen=True)
class Past:
    """A past day: days ago, its total, its share by this time; None when that is not known."""

    age: int
    total: float
    share: float | None

    @property
    def weight(self) -> float:
        return MEMORY**self.age if self.age <= 7 else 0.0


@dataclass(frozen=True)
class Foretold:
    """A forecast and what it is made of."""

    usd: float
    error: float
    share: float
    trust: float
    spread: float
    shape: float

    @property
    def high(self) -> float:
        return self.usd * self.error


def formula(past: Sequence[Past], spent: float) -> Foretold:
    """The forecast after so much was spent; at least one share must be known."""
    logs = [math.log(day.total) for day in past]
    level = _mean([(day.weight, log) for day, log in zip(past, logs, strict=True)])
    spread = _variance(logs, PRIOR, PRIOR_DAYS)
    alike = [math.log(day.total) for day in past if day.age % 7 == 0]
    weekday = _variance(alike, spread, 1) if len(alike) > 1 else spread
    trusted = max(1 - weekday / spread, 0)
    usual = level + trusted * (statistics.fmean(alike) - level) if trusted else level
    known = [(day.weight, day.share) for day in past if day.share is not None and day.weight]
    share = max(_mean(known), 0.001)
    shape = NOISE * (1 + 1 / len(known)) * (1 - share) / share
    trust = 1 - shape / (shape + spread - trusted * (spread - weekday))
    pull = math.log(max(spent / share / math.exp(usual), 1e-4)) - shape
    usd = spent + (1 - share) * math.exp(usual + trust * pull)
    misses = [*_misses(past, trust, shape), math.sqrt(trust * shape)]
    error = math.exp(BAND * statistics.fmean(misses))
    return Foretold(usd, error, share, trust, spread, shape)


def _misses(past: Sequence[Past], trust: float, shape: float) -> list[float]:
    """How wrong each day's forecast would have been, from the others."""
    misses = []
    for day in past:
        others = [one for one in past if one.age != day.age and one.weight]
        known = [(one.weight, one.share) for one in others if one.share is not None]
        if day.weight and day.share is not None and known:
            share = max(_mean(known), 0.001)
            log = _mean([(one.weight, math.log(one.total)) for one in others])
            pull = math.log(max(day.share / share, 1e-4)) - shape
            rest = math.exp((1 - trust) * (log - math.log(day.total)) + trust * pull)
            misses.append(abs(math.log(max(day.share + (1 - share) * rest, 1e-4))))
    return misses


def _mean(weighted: Sequence[tuple[float, float]]) -> float:
    return sum(w * x for w, x in weighted) / sum(w for w, _ in weighted)


def _variance(values: Sequence[float], prior: float, days: int) -> float:
    found = statistics.pvariance(values) * len(values)
    return (found + prior * days) / (len(values) + days - 1)

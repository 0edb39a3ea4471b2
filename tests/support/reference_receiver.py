"""The rules for raising and lowering (design, section 7), written down a second time, from scratch.

Ranks instead of names, one round at a time, nothing shared with the receiver's code.
"""

from dataclasses import dataclass, field

GAP, NEW_DAY, EXHAUSTED_FOR = 15.0, 60.0, 60.0


@dataclass(frozen=True)
class Evidence:
    """What one round hears of one track (the ladder, or one tuning), as ranks.

    asked: by Alertmanagers and Prometheuses; zero, wanted: llm_degradation_wanted, fresh;
    sick: whose rules are not well; days: of the exporters that answer.
    """

    known: bool
    asked: frozenset[int]
    zero: frozenset[int]
    wanted: frozenset[int]
    sick: frozenset[int]
    evaluated_at: float
    days: tuple[float, ...]
    all_exporters: bool

    def clear(self, ranks: set[int]) -> bool:
        return self.known and ranks <= self.zero and not ranks & (self.wanted | self.sick)


@dataclass
class Track:
    """A ladder of `top` ranks; a tuning is one of a single rank."""

    top: int
    hold: float
    rank: int = 0
    changed: float = 0.0
    day: float | None = None
    clear_from: float | None = None
    clear_last: float = 0.0
    claims: dict[str, tuple[int, float]] = field(default_factory=dict)  # key: rank, received
    ended: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def webhook(
        self, key: str, rank: int, firing: bool, start: float, end: float, now: float
    ) -> None:
        if not firing:
            if self.started.get(key, end) <= end:
                self.claims.pop(key, None)
            self.ended[key] = max(end, self.ended.get(key, end))
        elif start > self.ended.get(key, -1.0):
            self.claims[key] = (rank, now)
            self.started[key] = start

    def raise_(self, asked: set[int], now: float, day: float | None) -> None:
        highest = max(asked, default=0)
        if highest > self.rank:
            self.rank, self.changed, self.day, self.clear_from = highest, now, day, None
        elif highest and highest == self.rank:
            self.clear_from = None

    def round(self, seen: Evidence, now: float) -> None:
        self._clock(now)
        asked = set(seen.asked) | self._still_claimed(seen)
        latest = max(seen.days, default=None)
        self.raise_(asked, now, latest)
        if not self.rank:
            return
        above = set(range(self.rank, self.top + 1))
        earliest = min(seen.days) if seen.all_exporters else None
        if self.day is None:
            self.day = latest
        elif earliest is not None and now >= earliest + NEW_DAY and above & seen.wanted:
            self.day = max(earliest, self.day)
        if above & (asked | seen.wanted):
            self.clear_from = None
        elif seen.clear(above):
            if earliest is not None and self.day is not None and earliest > self.day:
                self._new_day(asked, seen, now)
            elif self._held(now):
                self._lower(self.rank - 1, now)

    def _still_claimed(self, seen: Evidence) -> set[int]:
        for key, (rank, received) in list(self.claims.items()):
            if rank not in seen.asked and seen.clear({rank}) and seen.evaluated_at > received:
                del self.claims[key]  # its resolve was never delivered
        return {rank for rank, _ in self.claims.values()}

    def _new_day(self, asked: set[int], seen: Evidence, now: float) -> None:
        if set(range(1, self.top + 1)) <= seen.zero | seen.wanted:
            self._lower(max(asked | seen.wanted, default=0), now)
            self.day = max(seen.days)

    def _held(self, now: float) -> bool:
        if self.clear_from is None or now - self.clear_last > GAP:
            self.clear_from = now
        self.clear_last = now
        return now - max(self.clear_from, self.changed) >= self.hold

    def _lower(self, rank: int, now: float) -> None:
        self.rank, self.changed, self.clear_from = rank, now, None

    def _clock(self, now: float) -> None:
        """A clock that was set back."""
        self.changed, self.clear_last = min(self.changed, now), min(self.clear_last, now)
        if self.clear_from is not None:
            self.clear_from = min(self.clear_from, now)
        self.claims = {key: (rank, min(at, now)) for key, (rank, at) in self.claims.items()}
        self.ended = {key: min(end, now) for key, end in self.ended.items()}

    def restart(self) -> None:
        self.clear_from = None


@dataclass
class Backstop:
    """The exporters' own word that the budget is gone."""

    hold: float
    on: bool = False
    since: float | None = None
    changed: float = 0.0
    day: float | None = None
    clear_from: float | None = None
    clear_last: float = 0.0

    def round(
        self, exhausted: bool, everyone: bool, days: tuple[float, ...], ladder: Track, now: float
    ) -> None:
        self.changed, self.clear_last = min(self.changed, now), min(self.clear_last, now)
        self.clear_from = None if self.clear_from is None else min(self.clear_from, now)
        if exhausted:
            self.since = now if self.since is None else min(self.since, now)
            self.clear_from = None
            if not self.on and now - self.since >= EXHAUSTED_FOR and ladder.rank < ladder.top:
                self.on, self.changed, self.day = True, now, max(days, default=None)
        elif everyone:
            self.since = None
            if self.day is not None and min(days) > self.day:
                self.on = False
            elif self.on:
                if self.clear_from is None or now - self.clear_last > GAP:
                    self.clear_from = now
                self.clear_last = now
                self.on = now - max(self.clear_from, self.changed) < self.hold

    def restart(self) -> None:
        self.clear_from = None

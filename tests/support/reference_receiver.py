"""The rules for raising and lowering (design, section 7), written down a second time, from scratch.

Ranks instead of names, one round at a time, nothing shared with the receiver's code.
"""

from dataclasses import dataclass, field, replace

GAP, EXHAUSTED_FOR = 15.0, 60.0
CAPPED = {"roaster": 2, "roaster_stop": 4}  # the level that each puts one roaster at, by its rank


def obeyed(rank: int, tuned: set[str], roaster: str) -> tuple[int, frozenset[str]]:
    """The level that one roaster has to obey, and the fields that are off for it at a cap."""
    pairs = [entry.split("/", 1) for entry in tuned]
    own = [CAPPED[name] for name, scope in pairs if name in CAPPED and scope == roaster]
    return max([rank, *own]), frozenset(scope for name, scope in pairs if name == "field_stop")


@dataclass(frozen=True)
class Heard:
    """What one Prometheus' records say, late or not. Times are Unix seconds.

    at: of the records; day, live, spent: the budget day, ledgers scraped just now, in its spend.
    epochs: by ledger the newest grant, reset or revoke that the records know of.
    """

    at: float
    interval: float
    delay: float
    day: float | None
    live: frozenset[str]
    spent: frozenset[str]
    epochs: dict[str, int]

    @property
    def settling(self) -> float:
        return 3 * self.interval + self.delay

    def fresh(self, now: float) -> "Heard":
        """The same, without what is too old, or may be of the day before."""
        if self.at <= now - self.settling - 1:
            return replace(self, day=None, live=frozenset(), spent=frozenset(), epochs={})
        if self.day is None or self.day > now + 5:
            return replace(self, day=None, spent=frozenset())
        settled = self.at > self.day + self.settling
        return replace(self, spent=self.spent if settled else frozenset())


@dataclass
class Memory:
    """The ledgers seen today."""

    day: dict[str, float] = field(default_factory=dict)
    address: dict[str, str] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)  # in the last round
    latest: float = 0.0  # day that anybody said in the last round
    epochs: dict[str, int] = field(default_factory=dict)
    grants: int = 0  # that the records showed; a revoke counts as one, though it brings no money
    granted_at: float = 0.0
    known: dict[str, int] = field(default_factory=dict)  # to all rulers, in the last round

    def hear(
        self,
        exporters: dict[str, tuple[str, float] | None],
        rulers: list[Heard | None],
        own: dict[str, int],
        now: float,
    ) -> set[str]:
        """Exporters by address: ledger and day. The addresses whose silence a person waived."""
        answers = {url: one for url, one in exporters.items() if one}
        heard = [one for one in rulers if one]
        self.live = {ledger for ledger, _ in answers.values()}.union(*(one.live for one in heard))
        days = [day for _, day in answers.values()] + [one.day for one in heard if one.day]
        self.latest = max(days, default=0.0)
        back_or_over = {one for one in self.retired if self.day[one] < self.latest} | self.live
        self.retired -= back_or_over
        waived = {self.address.get(one, "") for one in self.retired} - set(answers)
        silent = set(exporters) - set(answers) - waived
        if days and not silent and len(heard) == len(rulers) and all(one.day for one in heard):
            self._forget(min(days))
        for url, (ledger, day) in answers.items():
            self._see(ledger, day)
            self.address = {one: at for one, at in self.address.items() if at != url}
            self.address[ledger] = url
        for one in heard:
            for ledger in one.spent:
                self._see(ledger, one.day or 0.0)
        self._count_grants(heard, own, now, whole=len(heard) == len(rulers))
        return waived

    def _count_grants(
        self, heard: list[Heard], own: dict[str, int], now: float, *, whole: bool
    ) -> None:
        """own: what the exporters say themselves."""
        self.granted_at, self.known = min(self.granted_at, now), {}
        for ledger in heard[0].epochs if heard else ():
            if all(ledger in one.epochs for one in heard):
                self.known[ledger] = min(one.epochs[ledger] for one in heard)
        for ledger, epoch in self.known.items() if whole else ():
            if ledger not in self.day:
                continue
            before = self.epochs.get(ledger)
            if before is None or own.get(ledger, before) < before:
                self.epochs[ledger] = epoch
            elif epoch > before:
                self.epochs[ledger] = epoch
                self.grants += 1
                self.granted_at = max(one.at for one in heard if one.epochs)

    def away(self) -> set[str]:
        return set(self.day) - self.live - self.retired

    def retire(self, ledger: str) -> bool:
        """Whether it may be."""
        if ledger not in self.day or ledger in self.live:
            return False
        self.retired.add(ledger)
        self._see(ledger, self.latest)
        return True

    def restart(self) -> None:
        self.live, self.latest = set(), 0.0

    def _see(self, ledger: str, day: float) -> None:
        self.day[ledger] = max(day, self.day.get(ledger, day))

    def _forget(self, day: float) -> None:
        self.day = {ledger: seen for ledger, seen in self.day.items() if seen >= day}
        self.address = {ledger: at for ledger, at in self.address.items() if ledger in self.day}
        self.epochs = {ledger: n for ledger, n in self.epochs.items() if ledger in self.day}
        self.retired &= set(self.day)


@dataclass(frozen=True)
class Evidence:
    """What one round hears of one track (the ladder, or one tuning), as ranks.

    known: every source answers and no ledger is away. asked: by Alertmanagers and Prometheuses;
    zero, wanted: llm_degradation_wanted, fresh; today: wanted by records that have settled on the
    exporters' day; sick: whose rules are not well; days: of the exporters that answer.
    of_today: all records are of the exporters' day. least: the shortest hold; gap: as it may be.
    of_the_grants: no record is from before an exporter's newest grant; grants: how many were seen;
    at_once: the records show the exporters' own newest grants, and nobody is away or late;
    settled: they show them, and all rules were evaluated since. fired: by a Prometheus' own rules.
    """

    known: bool
    asked: frozenset[int]
    zero: frozenset[int]
    wanted: frozenset[int]
    sick: frozenset[int]
    evaluated_at: float
    days: tuple[float, ...]
    all_exporters: bool
    today: frozenset[int]
    of_today: bool
    least: float
    gap: float
    of_the_grants: bool
    grants: int
    at_once: bool
    settled: bool
    fired: frozenset[int]

    def clear(self, ranks: set[int]) -> bool:
        return (
            self.known
            and self.of_today
            and self.of_the_grants
            and ranks <= self.zero
            and not ranks & (self.wanted | self.sick)
        )


@dataclass
class Track:
    """A ladder of `top` ranks; a tuning is one of a single rank."""

    top: int
    hold: float
    rank: int = 0
    changed: float = 0.0
    day: float | None = None
    grants: int = 0
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

    def raise_(self, asked: set[int], now: float, day: float | None, grants: int) -> None:
        highest = max(asked, default=0)
        if highest > self.rank:
            self.rank, self.changed, self.day, self.clear_from = highest, now, day, None
            self.grants = grants
        elif highest and highest == self.rank:
            self.clear_from = None

    def round(self, seen: Evidence, now: float) -> None:
        self._clock(now)
        asked = set(seen.asked) | self._still_claimed(seen)
        self.raise_(asked, now, max(seen.days, default=None), seen.grants)
        if not self.rank:
            return
        above = set(range(self.rank, self.top + 1))
        self._learn(seen, above)
        if above & (asked | seen.wanted):
            self.clear_from = None
        elif seen.clear(above) and seen.evaluated_at > self.changed:
            later = seen.all_exporters and self.day is not None and min(seen.days) > self.day
            if later or (seen.at_once and self.grants < seen.grants):
                self._anew(asked, seen, now)
            elif self._held(seen, now):
                self._lower(self.rank - 1, now)

    def _learn(self, seen: Evidence, above: set[int]) -> None:
        """What a day, or the money after a grant, wants itself."""
        if self.day is None:
            self.day = max(seen.days, default=None)
        elif seen.all_exporters and above & seen.today:
            self.day = max(min(seen.days), self.day)
        if above & (seen.fired | seen.wanted) and seen.settled:
            self.grants = seen.grants

    def _still_claimed(self, seen: Evidence) -> set[int]:
        for key, (rank, received) in list(self.claims.items()):
            if rank not in seen.asked and seen.clear({rank}) and seen.evaluated_at > received:
                del self.claims[key]  # its resolve was never delivered
        return {rank for rank, _ in self.claims.values()}

    def _anew(self, asked: set[int], seen: Evidence, now: float) -> None:
        if set(range(1, self.top + 1)) <= seen.zero | seen.wanted:
            self._lower(max(asked | seen.wanted, default=0), now)
            self.day = max(seen.days)
            self.grants = seen.grants if seen.settled else self.grants

    def _held(self, seen: Evidence, now: float) -> bool:
        if self.clear_from is None or now - self.clear_last > max(GAP, seen.gap):
            self.clear_from = now
        self.clear_last = now
        return now - max(self.clear_from, self.changed) >= max(self.hold, seen.least)

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
    grants: int = 0
    clear_from: float | None = None
    clear_last: float = 0.0

    def round(
        self, exhausted: bool, everyone: bool, seen: Evidence, ladder: Track, now: float
    ) -> None:
        days = seen.days
        self.changed, self.clear_last = min(self.changed, now), min(self.clear_last, now)
        self.clear_from = None if self.clear_from is None else min(self.clear_from, now)
        if exhausted:
            self.since = now if self.since is None else min(self.since, now)
            self.clear_from = None
            self.grants = seen.grants if seen.settled else self.grants
            if not self.on and now - self.since >= EXHAUSTED_FOR and ladder.rank < ladder.top:
                self.on, self.changed, self.day = True, now, max(days, default=None)
                self.grants = seen.grants
        elif everyone:
            self.since = None
            later = self.day is not None and min(days) > self.day
            if later or (seen.at_once and self.grants < seen.grants):
                self.on = False
            elif self.on:
                if self.clear_from is None or now - self.clear_last > max(GAP, seen.gap):
                    self.clear_from = now
                self.clear_last = now
                self.on = now - max(self.clear_from, self.changed) < max(self.hold, seen.least)

    def restart(self) -> None:
        self.clear_from = None

"""Whatever happens to webhooks, sources, clocks and the process: the receiver does what a second,
independent reading of the rules does, and ends at the right level once the truth is visible.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alertmanager.receiver.alerts import Alert, Notification
from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
)
from alertmanager.receiver.overrides import OverrideRequest
from tests.support.budget_statuses import figures
from tests.support.examples import examples
from tests.support.receivers import NOW, Receiver
from tests.support.reference_receiver import Backstop, Evidence, Track

HOLD, ROUND, DAY = 6.0, 2.0, 3600.0
LEVELS = ("none", "conserve", "control", "emergency", "fallback")
TUNING = "roaster/naivo"
ENTRIES = (*LEVELS[1:], TUNING)
MEMORY = Path("/dev/shm")  # a state file is fsynced at each step

entries = st.sampled_from(ENTRIES)
some = st.frozensets(entries)
# What the books really ask for: every level up to one, and the tuning or not.
truths = st.sampled_from(
    [frozenset((*LEVELS[1:top], *tuned)) for top in (1, 1, 2, 3, 5) for tuned in ((), (TUNING,))]
)
# A webhook's alert: entry, fingerprint's number, firing, start and end before now in seconds.
alerts = st.tuples(
    entries,
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from((0, 1, 5, 40)),
    st.sampled_from((0, 3)),
)
managers = st.lists(st.none() | some, min_size=2, max_size=2)
prometheus = st.none() | st.fixed_dictionaries(
    {"firing": some, "wanted": some, "zero": some, "sick": some, "age": st.sampled_from((0, 3))}
)
exporters = st.lists(
    st.tuples(st.sampled_from(("today", "yesterday", "away", "full")), st.booleans()),
    min_size=2, max_size=2,
)  # fmt: skip

SPOILS = (
    "manager away", "suppressed", "prometheus away", "zero", "sick", "wanted", "firing", "age",
    "yesterday", "away", "full",
)  # fmt: skip


def rank_of(entry: str) -> int:
    return 1 if entry == TUNING else LEVELS.index(entry)


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.day = 0
        self.sent: list[Notification] = []
        self.ladder, self.tuning = Track(4, HOLD), Track(1, HOLD)
        self.backstop = Backstop(HOLD)
        self.heard_days: tuple[float, ...] = ()
        self._start(NOW)

    def _start(self, now: float) -> None:
        self.receiver = Receiver(self.folder, now=now)
        self.receiver.controller.hold_seconds = HOLD

    def teardown(self) -> None:
        try:
            self._converge()
        finally:
            self.receiver.close()
            shutil.rmtree(self.folder)

    @property
    def now(self) -> float:
        return self.receiver.clock.now()

    # What happens

    @rule(given=st.lists(alerts, min_size=1, max_size=4), cut=st.integers(0, 2))
    def webhook(self, given: list[Any], cut: int) -> None:
        """Firing and resolved, mixed, late, for one alert or several, some cut off."""
        kept = given[: max(1, len(given) - cut)]
        told = tuple(self._alert(*one) for one in kept)
        self._notify(Notification("4", "firing", list(told), len(given) - len(kept)))

    @rule(which=st.integers(0, 50))
    def repeat(self, which: int) -> None:
        """A notification comes again: a retry, the pair's other half, an old one overtaken."""
        if self.sent:
            self._notify(self.sent[which % len(self.sent)])

    @rule(
        managers=managers,
        first=prometheus,
        second=prometheus,
        exporters=exporters,
        seconds=st.sampled_from((0.5, 2, 2, 2, 14, 16, 61)),
    )
    def contradictory_round(
        self, managers: list[Any], first: Any, second: Any, exporters: list[Any], seconds: float
    ) -> None:
        self.receiver.clock.advance(seconds)
        self._round(managers, [first, second], exporters)

    @rule(truth=truths, rounds=st.integers(1, 6))
    def consistent_rounds(self, truth: frozenset[str], rounds: int) -> None:
        for _ in range(rounds):
            self._truthful_round(truth)

    @rule(
        high=truths,
        low=truths,
        spoilt=st.sampled_from(SPOILS),
        entry=entries,
        at=st.integers(0, 4),
        seconds=st.sampled_from((2, 2, 16)),
        day_at=st.sampled_from((None, 0, 1)),
        late=st.sampled_from((0, 61)),
    )
    def a_fall_with_one_bad_round(
        self,
        high: Any,
        low: Any,
        spoilt: str,
        entry: str,
        at: int,
        seconds: float,
        day_at: int | None,
        late: float,
    ) -> None:
        """Perhaps over a new day, and perhaps today wants it, too, before it falls."""
        self._truthful_round(high)
        for number in range(9):
            if number == day_at:
                self.a_day_begins(late)
                if late:
                    self._truthful_round(high)
            if number == at:
                self._almost_truthful_round(low, spoilt, entry, seconds)
            else:
                self._truthful_round(low)
            self.the_receiver_does_what_the_reference_does()

    def _almost_truthful_round(
        self, truth: frozenset[str], spoilt: str, entry: str, seconds: float
    ) -> None:
        """One thing is wrong, missing or old; the rest is as it should be."""
        self.receiver.clock.advance(seconds)
        zero = frozenset(ENTRIES) - truth
        one: Any = {"firing": truth, "wanted": truth, "zero": zero, "sick": frozenset(), "age": 0}
        managers: list[Any] = [truth, truth]
        exporters = [("today", False), ("today", False)]
        other = dict(one)
        if spoilt == "manager away":
            managers[1] = None
        elif spoilt == "suppressed":
            managers[1] = truth | {entry}
        elif spoilt == "prometheus away":
            other = None  # type: ignore[assignment]
        elif spoilt in ("zero", "sick", "wanted", "firing"):
            other[spoilt] = zero - {entry} if spoilt == "zero" else other[spoilt] | {entry}
        elif spoilt == "age":
            other["age"] = 14
        else:
            exporters[1] = (spoilt, False)
        self._round(managers, [one, other], exporters)

    @rule(back=st.sampled_from((5.0, 1000.0, 100_000.0)))
    def the_clock_is_set_back(self, back: float) -> None:
        self.receiver.clock.advance(-back)

    @rule(late=st.sampled_from((0, 61)))
    def a_day_begins(self, late: float) -> None:
        self.day += 1
        self.receiver.clock.set(max(self.now, NOW + self.day * DAY + late))

    @rule(lost=st.booleans())
    def the_receiver_restarts(self, lost: bool) -> None:
        now = self.now
        self.receiver.close()
        self._start(now)
        for part in (self.ladder, self.tuning, self.backstop):
            part.restart()
        self.heard_days = ()

    @rule(
        mode=st.sampled_from(("degrade", "pin")),
        level=st.sampled_from(LEVELS),
        seconds=st.sampled_from((3, 30)),
    )
    def a_person_decides(self, mode: Any, level: str, seconds: int) -> None:
        until = datetime.fromtimestamp(self.now + seconds, UTC)
        self.receiver.controller.override(OverrideRequest(mode, "r", "ann", level, until=until))

    @rule()
    def a_person_releases(self) -> None:
        self.receiver.controller.override(OverrideRequest("release", "r", "ann"))

    # What must hold

    @invariant()
    def the_receiver_does_what_the_reference_does(self) -> None:
        store = self.receiver.store
        assert LEVELS.index(store.state.level) == self.ladder.rank
        assert (TUNING in store.state.tunings) == bool(self.tuning.rank)
        assert (store.state.backstop is not None) == self.backstop.on
        assert store.ok

    @invariant()
    def the_effective_file_shows_what_is_in_force(self) -> None:
        level = self.receiver.store.in_force.level
        header = self.receiver.file.read_text().splitlines()[0]
        assert f": level {level}" in header
        assert (TUNING in header) == bool(self.tuning.rank)

    def _converge(self) -> None:
        """Whatever was before: with everyone well, the truth is in force a few holds later."""
        self.receiver.controller.override(OverrideRequest("release", "r", "ann"))
        truth = frozenset({"conserve", "control"})
        rounds = int((len(LEVELS) * (HOLD + 2 * ROUND) + 61) / ROUND)
        for _ in range(rounds):
            self._truthful_round(truth)
            self.the_receiver_does_what_the_reference_does()
        state = self.receiver.store.state
        assert (state.level, state.tunings, state.claims) == ("control", {}, state.claims)
        assert self.receiver.store.in_force.level == "control"

    # How it is made

    def _alert(self, entry: str, number: int, firing: bool, start: int, end: int) -> Alert:
        name, _, scope = entry.partition("/")
        labels = {"tuning": name, "roaster": scope} if scope else {"degradation": name}
        moment = datetime.fromtimestamp(self.now, UTC).timestamp()
        return Alert(
            "firing" if firing else "resolved",
            {"alertname": "X", **labels},
            datetime.fromtimestamp(moment - start, UTC),
            datetime.fromtimestamp(moment - end, UTC),
            f"{entry} {number}",
        )

    def _notify(self, notification: Notification) -> None:
        self.sent.append(notification)
        self.receiver.controller.notify(notification)
        for alert in notification.alerts:
            entry = alert.fingerprint.partition(" ")[0]
            track = self.tuning if entry == TUNING else self.ladder
            start, end = alert.starts_at.timestamp(), alert.ends_at.timestamp()
            firing = alert.status == "firing"
            track.webhook(alert.fingerprint, rank_of(entry), firing, start, end, self.now)
        day = max(self.heard_days, default=None)
        for track in (self.ladder, self.tuning):
            track.raise_({rank for rank, _ in track.claims.values()}, self.now, day)

    def _truthful_round(self, truth: frozenset[str]) -> None:
        self.receiver.clock.advance(ROUND)
        zero = frozenset(ENTRIES) - truth
        one = {"firing": truth, "wanted": truth, "zero": zero, "sick": frozenset(), "age": 0}
        self._round([truth, truth], [one, one], [("today", False)] * 2)

    def _round(self, managers: list[Any], prometheuses: list[Any], exporters: list[Any]) -> None:
        observed = Observations(
            tuple(AlertmanagerAnswer("a", m) if m is not None else LOST for m in managers),
            tuple(self._prometheus(p) if p else LOST for p in prometheuses),
            tuple(self._exporter(*e) for e in exporters),
        )
        self.receiver.observe(observed)
        days = tuple(e.day_start for e in observed.exporters if isinstance(e, ExporterAnswer))
        everyone = all(state in ("today", "yesterday") for state, _ in exporters)
        for track, names in ((self.ladder, LEVELS[1:]), (self.tuning, (TUNING,))):
            track.round(evidence(names, managers, prometheuses, days, everyone, self.now), self.now)
        spent = [gone for state, gone in exporters if state != "away"]
        exhausted = bool(spent) and any(spent)  # one of them alone has spent it all
        self.backstop.round(exhausted, everyone, days, self.ladder, self.now)
        self.heard_days = days

    def _prometheus(self, given: dict[str, Any]) -> PrometheusAnswer:
        sick = {entry.partition("/")[0]: "health err" for entry in given["sick"]}
        zero = given["zero"] - given["wanted"]
        evaluated = self.now - given["age"]
        return PrometheusAnswer("p", given["firing"], evaluated, sick, zero, given["wanted"])

    def _exporter(self, state: str, exhausted: bool) -> Any:
        if state == "away":
            return LOST
        start = NOW + (self.day - (state == "yesterday")) * DAY
        spend = "100" if exhausted else "0"
        return ExporterAnswer("e", start, figures(spend), state != "full")


LOST = NoAnswer("x", "no answer in time")


def evidence(
    names: tuple[str, ...],
    managers: list[Any],
    prometheuses: list[Any],
    days: tuple[float, ...],
    everyone: bool,
    now: float,
) -> Evidence:
    """One track's part of what a round hears."""

    def ranks(given: frozenset[str]) -> frozenset[int]:
        return frozenset(rank_of(entry) for entry in given & set(names))

    said = [p for p in prometheuses if p]
    asked = [*(m for m in managers if m is not None), *(p["firing"] for p in said)]
    zeros = [ranks(p["zero"] - p["wanted"]) for p in said]
    return Evidence(
        known=None not in managers and None not in prometheuses,
        asked=frozenset().union(*map(ranks, asked)),
        zero=frozenset.intersection(*zeros) if zeros else frozenset(),
        wanted=frozenset().union(*(ranks(p["wanted"]) for p in said)),
        sick=frozenset().union(*(ranks(p["sick"]) for p in said)),
        evaluated_at=min((now - p["age"] for p in said), default=0.0),
        days=days,
        all_exporters=everyone,
    )


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(
    max_examples=examples(40), stateful_step_count=20, deadline=None
)

"""Whatever happens to webhooks, sources, clocks and the process: the receiver does what a second,
independent reading of the rules does, and ends at the right level once the truth is visible.
"""

import contextlib
import math
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alertmanager.receiver.alerts import Alert, Notification
from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
)
from alertmanager.receiver.evidence.sources import PrometheusBody, prometheus_answer
from alertmanager.receiver.ladder.effective import config_for, effective
from alertmanager.receiver.overrides import OverrideRequest
from common.errors import UserError
from tests.support import prometheus_answers as said
from tests.support.budget_statuses import figures
from tests.support.examples import examples
from tests.support.ladders import shipped_baseline, shipped_ladder
from tests.support.receivers import NOW, Receiver
from tests.support.reference_receiver import Backstop, Evidence, Heard, Memory, Track, obeyed

HOLD, ROUND, DAY = 6.0, 2.0, 3600.0
EVALUATED = 0.5  # so long ago each Prometheus evaluated last
LEVELS = ("none", "conserve", "control", "emergency", "fallback")
TUNINGS = ("roaster/naivo", "roaster_stop/naivo", "field_stop/notes")
ENTRIES = (*LEVELS[1:], *TUNINGS)
# The ledgers of the two exporters on the receiver's list, one that only the rules know, and those
# that an exporter has after it moved.
LISTED, UNLISTED, MOVED = ("l0", "l1"), "lx", ("m0", "m1")
LEDGERS = frozenset((*LISTED, UNLISTED))
LADDER = shipped_ladder()
MEMORY = Path("/dev/shm")  # a state file is fsynced at each step

entries = st.sampled_from(ENTRIES)
some = st.frozensets(entries)
# What the books really ask for: every level up to one, and what caps ask for, or not.
truths = st.sampled_from(
    [
        frozenset((*LEVELS[1:top], *tuned))
        for top in (1, 1, 2, 3, 5)
        for tuned in ((), TUNINGS[:1], TUNINGS)
    ]
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
ledgers = st.sampled_from((LEDGERS, LEDGERS, frozenset(LISTED), frozenset[str]()))
# What a Prometheus says. age: its records', in seconds; day: that they are of.
prometheus = st.none() | st.fixed_dictionaries(
    {
        "firing": some, "wanted": some, "zero": some, "sick": some,
        "age": st.sampled_from((0, 0, 3, 5, 20, 24)), "interval": st.sampled_from((1, 1, 30)),
        "day": st.sampled_from(("today", "today", "yesterday", None)),
        "live": ledgers, "spent": ledgers, "epoch": st.sampled_from(("now", "now", "before", None)),
    }
)  # fmt: skip
exporters = st.lists(
    st.tuples(st.sampled_from(("today", "yesterday", "away", "full", "moved")), st.booleans()),
    min_size=2, max_size=2,
)  # fmt: skip

# What a Prometheus says otherwise.
CHANGES: dict[str, dict[str, Any]] = {
    "age": {"age": 14},
    "old day": {"day": "yesterday"},
    "no day": {"day": None},
    "slow": {"interval": 30},
    "ledger away": {"live": frozenset(LISTED)},
    "before the grant": {"epoch": "before"},
}
SPOILS = (
    "manager away", "suppressed", "prometheus away", "zero", "sick", "wanted", "firing",
    "yesterday", "away", "full", "moved", *CHANGES,
)  # fmt: skip


def rank_of(entry: str) -> int:
    return 1 if entry in TUNINGS else LEVELS.index(entry)


@cache
def config_at(rank: int, off: frozenset[str]) -> Any:
    """The baseline at a level, with some fields off."""
    document = effective(LADDER, shipped_baseline(), LEVELS[rank]).document
    for name in off:
        document["field_configs"][name]["enabled"] = False
    return config_for(document, "")


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.day = 0
        self.epochs = dict.fromkeys((*sorted(LEDGERS), *MOVED), 1)
        self.sent: list[Notification] = []
        self.ladder = Track(4, HOLD)
        self.tunings = {entry: Track(1, HOLD) for entry in TUNINGS}
        self.backstop, self.memory = Backstop(HOLD), Memory()
        self.heard_days: tuple[float, ...] = ()
        self.delay, self.risen_at = 0.0, NOW
        self._start(NOW)

    @initialize(delay=st.sampled_from((0.0, 20.0)))
    def the_ruler_is_late(self, delay: float) -> None:
        """By what the flag says."""
        self.delay = delay

    def _start(self, now: float) -> None:
        self.receiver = Receiver(self.folder, now=now)
        self.receiver.controller.hold_seconds = HOLD

    def teardown(self) -> None:
        try:
            self._converge()
        finally:
            self.close()

    def close(self) -> None:
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
        truth=truths,
        rounds=st.integers(3, 9),
        seconds=st.sampled_from((30, 59, 61)),
        late=st.sampled_from((0, 19)),
    )
    def rounds_of_a_slow_prometheus(
        self, truth: frozenset[str], rounds: int, seconds: float, late: float
    ) -> None:
        """It evaluates every 30 s; the receiver is asked as seldom, so that its gaps count."""
        for _ in range(rounds):
            self.receiver.clock.advance(seconds)
            one = self._truth(truth) | {"interval": 30, "age": min(late, self.delay)}
            self._round([truth, truth], [one, one], [("today", False)] * 2)
            self.the_receiver_does_what_the_reference_does()

    @rule(
        high=truths,
        low=truths,
        ledger=st.sampled_from((UNLISTED, LISTED[0])),
        wiped=st.booleans(),
        retired_at=st.sampled_from((None, 1)),
        back_at=st.sampled_from((None, 9)),
        day_at=st.sampled_from((None, 5)),
        exhausted=st.booleans(),
    )
    def a_ledger_vanishes(
        self,
        high: Any,
        low: Any,
        ledger: str,
        wiped: bool,
        retired_at: int | None,
        back_at: int | None,
        day_at: int | None,
        exhausted: bool,
    ) -> None:
        """wiped: Prometheus forgot it, so the rules' evidence is whole without it."""
        for _ in range(1 + exhausted):  # twice is long enough for the backstop
            self.receiver.clock.advance(61)
            one = self._truth(high)
            self._round([high, high], [one, one], [("today", exhausted)] * 2)
        for number in range(16):
            if number == day_at:
                self.a_day_begins(0)
            if number == retired_at:
                self.a_person_retires(ledger)
            gone = {ledger} if back_at is None or number < back_at else set()
            one = self._truth(low) | {"live": LEDGERS - gone}
            known = not wiped and (day_at is None or number < day_at)
            one["spent"] = LEDGERS if known else LEDGERS - gone
            if gone and known and ledger not in self.memory.retired:
                one |= {"zero": frozenset(), "wanted": frozenset()}
            self.receiver.clock.advance(ROUND)
            first = "away" if ledger in gone & set(LISTED) else "today"
            self._round([low, low], [one, one], [(first, False), ("today", False)])
            self.the_receiver_does_what_the_reference_does()

    @rule(ledger=st.sampled_from(sorted(LEDGERS)), restored=st.booleans())
    def a_person_grants(self, ledger: str, restored: bool) -> None:
        """Or a ledger is restored, and knows its newest grants no more."""
        self.epochs[ledger] = max(0, self.epochs[ledger] + (-2 if restored else 1))

    @rule(
        high=truths,
        part=truths,
        low=truths,
        ledger=st.sampled_from((UNLISTED, LISTED[0])),
        known_at=st.integers(0, 3),
        part_for=st.integers(0, 3),
        spoilt=st.sampled_from((None, None, *SPOILS)),
        exhausted=st.booleans(),
    )
    def a_grant_ends_it(
        self,
        high: Any,
        part: Any,
        low: Any,
        ledger: str,
        known_at: int,
        part_for: int,
        spoilt: str | None,
        exhausted: bool,
    ) -> None:
        """Or a part of it; records of before the grant come first, and perhaps wrong ones."""
        for _ in range(1 + 2 * exhausted):
            self.receiver.clock.advance(31 if exhausted else ROUND)
            one = self._truth(high)
            self._round([high, high], [one, one], [("today", exhausted)] * 2)
        self.a_person_grants(ledger, restored=False)
        for number in range(known_at + part_for + 4):
            truth = part if number < known_at + part_for else low
            if number < known_at:
                self.receiver.clock.advance(ROUND)
                one = self._truth(high) | {"epoch": "before"}
                self._round([high, high], [one, one], [("today", False)] * 2)
            elif number == known_at and spoilt:
                self._almost_truthful_round(truth, spoilt, "control", ROUND)
            else:
                self._truthful_round(truth)
            self.the_receiver_does_what_the_reference_does()

    @rule(
        high=truths,
        low=truths,
        ledger=st.sampled_from((UNLISTED, LISTED[0])),
        granted=st.booleans(),
        known_at=st.integers(0, 2),
        spoilt=st.sampled_from((None, None, *SPOILS)),
    )
    def a_revoke_takes_it_back(
        self, high: Any, low: Any, ledger: str, granted: bool, known_at: int, spoilt: str | None
    ) -> None:
        """An epoch that rises without money: what was wanted before is wanted again.

        granted: a grant came before, and had let it go; else nothing but the epoch changes.
        """
        self._truthful_round(high)
        if granted:
            self.a_grant_ends_it(
                high=high, part=low, low=low, ledger=ledger, known_at=1, part_for=0, spoilt=None,
                exhausted=False,
            )  # fmt: skip
        self.a_person_grants(ledger, restored=False)
        before = low if granted else high
        for number in range(known_at + 3):
            if number < known_at:
                self.receiver.clock.advance(ROUND)
                one = self._truth(before) | {"epoch": "before"}
                self._round([before, before], [one, one], [("today", False)] * 2)
            elif number == known_at and spoilt:
                self._almost_truthful_round(high, spoilt, "control", ROUND)
            else:
                self._truthful_round(high)
            self.the_receiver_does_what_the_reference_does()

    @rule(ledger=st.sampled_from((*sorted(LEDGERS), *MOVED)))
    def a_person_retires(self, ledger: str) -> None:
        request = OverrideRequest("retire", "r", "ann", ledger=ledger)
        if self.memory.retire(ledger):
            self.receiver.controller.override(request)
        else:
            with pytest.raises(UserError, match=r"lives|no ledger that was seen today"):
                self.receiver.controller.override(request)

    @rule(
        high=truths,
        low=truths,
        spoilt=st.sampled_from(SPOILS),
        entry=entries,
        at=st.integers(0, 4),
        seconds=st.sampled_from((2, 2, 16)),
        day_at=st.sampled_from((None, 0, 1)),
        late=st.sampled_from((0, 61)),
        lasting=st.booleans(),
    )
    def a_fall_with_bad_rounds(
        self,
        high: Any,
        low: Any,
        spoilt: str,
        entry: str,
        at: int,
        seconds: float,
        day_at: int | None,
        late: float,
        lasting: bool,
    ) -> None:
        """Or all from then on; perhaps over a new day, and perhaps today wants it, too, first."""
        self._truthful_round(high)
        for number in range(9):
            if number == day_at:
                self.a_day_begins(late)
                if late:
                    self._truthful_round(high)
            if number == at or (lasting and number > at):
                self._almost_truthful_round(low, spoilt, entry, seconds)
            else:
                self._truthful_round(low)
            self.the_receiver_does_what_the_reference_does()

    def _almost_truthful_round(
        self, truth: frozenset[str], spoilt: str, entry: str, seconds: float
    ) -> None:
        """One thing is wrong, missing or old; the rest is as it should be."""
        self.receiver.clock.advance(seconds)
        one, zero = self._truth(truth), frozenset(ENTRIES) - truth
        managers: list[Any] = [truth, truth]
        exporters = [("today", False), ("today", False)]
        other = dict(one)
        if spoilt == "manager away":
            managers[1] = None
        elif spoilt == "suppressed":
            managers[1] = truth | {entry}
        elif spoilt == "prometheus away":
            other.clear()
        elif spoilt in ("zero", "sick", "wanted", "firing"):
            other[spoilt] = zero - {entry} if spoilt == "zero" else other[spoilt] | {entry}
        elif spoilt in CHANGES:
            other |= CHANGES[spoilt]
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

    @rule(
        truth=truths,
        level=st.sampled_from(LEVELS[1:]),
        resolved=st.booleans(),
        age=st.sampled_from((0, 3)),
    )
    def a_day_turns_just_after_a_webhook(
        self, truth: Any, level: str, resolved: bool, age: float
    ) -> None:
        """The first records of the new day are from before it, or from after it."""
        self.receiver.clock.set(max(self.now, NOW + (self.day + 1) * DAY - 5))
        self._truthful_round(truth)
        self._truthful_round(frozenset())
        for firing in (True, False)[: 1 + resolved]:
            told = self._alert(level, 0, firing, 0, 0)
            self._notify(Notification("4", "firing", [told]))
        self.a_day_begins(0)
        self.receiver.clock.advance(0.5)
        one = self._truth(frozenset()) | {"age": age}
        self._round([frozenset()] * 2, [one, one], [("today", False)] * 2)

    @rule(lost=st.booleans())
    def the_receiver_restarts(self, lost: bool) -> None:
        now = self.now
        self.receiver.close()
        self._start(now)
        for part in (self.ladder, *self.tunings.values(), self.backstop, self.memory):
            part.restart()
        self.heard_days = ()

    @rule(left=st.sampled_from((None, b"", b'{"level": "no', b"\0" * 400)))
    def the_state_is_damaged(self, left: bytes | None) -> None:
        """Over a restart; what was in force stays, and the ledgers that the audit trail names."""
        before, now = self.receiver.store.in_force, self.now
        trail = self.receiver.audit()
        self.receiver.close()
        if left is None:
            self.receiver.store.state_path.unlink()
        else:
            self.receiver.store.state_path.write_bytes(left)
        self._start(now)
        state = self.receiver.store.state
        after = self.receiver.store.in_force
        assert LEVELS.index(after.level) >= LEVELS.index(before.level)
        assert set(after.tunings) >= set(before.tunings)
        self.ladder = Track(4, HOLD, LEVELS.index(state.level))
        self.tunings = {one: Track(1, HOLD, int(one in state.tunings)) for one in TUNINGS}
        self.backstop, self.memory = Backstop(HOLD), Memory(trail[-1]["ledgers"])
        self.the_receiver_does_what_the_reference_does()
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
        assert set(store.state.tunings) == self._tuned()
        assert (store.state.backstop is not None) == self.backstop.on
        assert not store.problems
        memory, kept = self.memory, store.state.ledgers
        assert {ledger: seen.day for ledger, seen in kept.items()} == memory.day
        assert {one: seen.exporter for one, seen in kept.items() if seen.exporter} == memory.address
        assert {ledger for ledger, seen in kept.items() if seen.retired} == memory.retired
        epochs = {one: seen.epoch for one, seen in kept.items() if seen.epoch is not None}
        assert (epochs, store.state.epoch) == (memory.epochs, memory.grants)

    @invariant()
    def the_effective_file_shows_what_is_in_force(self) -> None:
        level = self.receiver.store.in_force.level
        header = self.receiver.file.read_text().splitlines()[0]
        assert f": level {level}" in header
        assert {entry for entry in TUNINGS if f", {entry}" in header} == self._tuned()

    @invariant()
    def each_roaster_obeys_the_most_restrictive_word(self) -> None:
        rank = LEVELS.index(self.receiver.store.in_force.level)
        document = self.receiver.store.effective.document
        for roaster in ("naivo", "blue-tokai"):
            own, off = obeyed(rank, self._tuned(), roaster)
            assert config_for(document, roaster) == config_at(own, off)

    def _tuned(self) -> set[str]:
        return {entry for entry, track in self.tunings.items() if track.rank}

    def _converge(self) -> None:
        """Whatever was before: with everyone well, the truth is in force a few holds later."""
        self.receiver.controller.override(OverrideRequest("release", "r", "ann"))
        truth = frozenset({"conserve", "control"})
        self.receiver.clock.set(max(self.now, NOW + self.day * DAY))
        self._truthful_round(truth)
        for ledger in sorted(self.memory.away()):
            self.a_person_retires(ledger)
        hold = max(HOLD, 3 + self.delay)
        rounds = int((len(LEVELS) * (hold + 2 * ROUND) + 61) / ROUND)
        for _ in range(rounds):
            self._truthful_round(truth)
            self.the_receiver_does_what_the_reference_does()
        state = self.receiver.store.state
        assert (state.level, state.tunings, state.claims) == ("control", {}, state.claims)
        # Who retires a ledger has its spend counted all the same, and the exporters lack it.
        shown = "fallback" if self.backstop.on and self.memory.retired else "control"
        assert self.receiver.store.in_force.level == shown

    # How it is made

    def _alert(self, entry: str, number: int, firing: bool, start: int, end: int) -> Alert:
        moment = datetime.fromtimestamp(self.now, UTC).timestamp()
        return Alert(
            "firing" if firing else "resolved",
            {"alertname": "X", **self._labels(entry)},
            datetime.fromtimestamp(moment - start, UTC),
            datetime.fromtimestamp(moment - end, UTC),
            f"{entry} {number}",
        )

    def _notify(self, notification: Notification) -> None:
        self.sent.append(notification)
        self.receiver.controller.notify(notification)
        for alert in notification.alerts:
            entry = alert.fingerprint.partition(" ")[0]
            track = self.tunings.get(entry, self.ladder)
            start, end = alert.starts_at.timestamp(), alert.ends_at.timestamp()
            firing = alert.status == "firing"
            track.webhook(alert.fingerprint, rank_of(entry), firing, start, end, self.now)
        day = max(self.heard_days, default=None)
        for track in (self.ladder, *self.tunings.values()):
            claimed = {rank for rank, _ in track.claims.values()}
            track.raise_(claimed, self.now, day, self.memory.grants)

    def _truthful_round(self, truth: frozenset[str]) -> None:
        self.receiver.clock.advance(ROUND)
        one = self._truth(truth)
        self._round([truth, truth], [one, one], [("today", False)] * 2)

    def _truth(self, truth: frozenset[str]) -> dict[str, Any]:
        """What a Prometheus says that is well."""
        zero, none = frozenset(ENTRIES) - truth, frozenset[str]()
        asked = {"firing": truth, "wanted": truth, "zero": zero, "sick": none}
        return asked | {
            "age": 0, "interval": 1, "day": "today", "live": LEDGERS, "spent": LEDGERS,
            "epoch": "now",
        }  # fmt: skip

    def _round(self, managers: list[Any], prometheuses: list[Any], exporters: list[Any]) -> None:
        observed = Observations(
            tuple(AlertmanagerAnswer("a", m) if m is not None else LOST for m in managers),
            tuple(self._prometheus(p) if p else LOST for p in prometheuses),
            tuple(self._exporter(number, *e) for number, e in enumerate(exporters)),
        )
        before = LEVELS.index(self.receiver.store.state.level)
        self.receiver.observe(observed)
        answered = {
            one.url: (one.ledger, one.day_start) if isinstance(one, ExporterAnswer) else None
            for one in observed.exporters
        }
        heard = [self._heard(p) if p else None for p in prometheuses]
        own = {one.ledger: one.epoch for one in observed.answered_exporters()}
        waived = self.memory.hear(answered, heard, own, self.now)
        listed = [state for n, (state, _) in enumerate(exporters) if f"e{n}" not in waived]
        days = tuple(one[1] for one in answered.values() if one)
        everyone = not {"away", "full"} & {state for state, _ in exporters}
        complete = everyone and set(self.memory.day) <= self.memory.live
        told = (managers, prometheuses, heard, days, listed, self.memory, complete, own)
        round_ = Round(*told, self.delay, self.now)
        for entry, track in self.tunings.items():
            track.round(evidence((entry,), round_), self.now)
        seen = evidence(LEVELS[1:], round_)
        self.ladder.round(seen, self.now)
        spent = [gone for state, gone in exporters if state != "away"]
        exhausted = bool(spent) and any(spent)  # one of them alone has spent it all
        self.backstop.round(exhausted, complete, seen, self.ladder, self.now)
        self.heard_days = days
        self._a_fall_has_its_proof(before, round_)

    def _a_fall_has_its_proof(self, before: int, round_: "Round") -> None:
        """Never lower than evidence newer than the rise allows, whatever else the rules are."""
        after = LEVELS.index(self.receiver.store.state.level)
        self.risen_at = self.now if after > before else min(self.risen_at, self.now)
        for given in round_.prometheuses if after < before else ():
            assert given, "a Prometheus did not answer"
            assert self.now - given["age"] > self.risen_at, "evidence from before the rise"
            assert set(LEVELS[after + 1 :]) <= given["zero"] - given["wanted"]
            assert not self.memory.away()

    def _prometheus(self, given: dict[str, Any]) -> PrometheusAnswer:
        """Its two answers as JSON, as the receiver reads them."""
        ago = NOW - self.now
        labels = {entry: self._labels(entry) for entry in ENTRIES}
        rules = [
            said.rule(
                age=ago + EVALUATED,
                labels=labels[entry],
                health="err" if entry in given["sick"] else "ok",
                alerts=[{"labels": labels[entry], "state": "firing"}] * (entry in given["firing"]),
            )
            for entry in ENTRIES
        ]
        records, at = (("zero", 0), ("wanted", 1)), ago + given["age"]
        samples = [(labels[e], value, at) for key, value in records for e in sorted(given[key])]
        spent, live = " ".join(sorted(given["spent"])), " ".join(sorted(given["live"]))
        day, epochs = self._day(given) or 0.0, self._epochs(given)
        facts = said.facts(at, day=day, live=live, spent=spent, epochs=epochs)
        if given["day"] is None:
            facts = [one for one in facts if not one["metric"]["fact"].startswith("day")]
        groups, vector = (
            msgspec.json.decode(msgspec.json.encode(document), type=PrometheusBody).data
            for document in (
                said.rules(*rules, interval=given["interval"]),
                said.wanted(*samples, facts=facts),
            )
        )
        return prometheus_answer("p", groups.groups, vector.result, LADDER, self.now, self.delay)

    def _heard(self, given: dict[str, Any]) -> Heard:
        at, interval = self.now - given["age"], given["interval"]
        day = self._day(given)
        known = (given["live"], given["spent"], self._epochs(given))
        return Heard(at, interval, self.delay, day, *known).fresh(self.now)

    def _epochs(self, given: dict[str, Any]) -> dict[str, int]:
        before = int(given["epoch"] == "before")
        known = {ledger: max(0, self.epochs[ledger] - before) for ledger in LEDGERS}
        return known if given["epoch"] else {}

    def _day(self, given: dict[str, Any]) -> float | None:
        start: float = NOW + (self.day - (given["day"] == "yesterday")) * DAY
        return None if given["day"] is None else start

    @staticmethod
    def _labels(entry: str) -> dict[str, str]:
        name, _, scope = entry.partition("/")
        return {"tuning": name, "scope": scope} if scope else {"degradation": name}

    def _exporter(self, number: int, state: str, exhausted: bool) -> Any:
        if state == "away":
            return NoAnswer(f"e{number}", "no answer in time")
        start = NOW + (self.day - (state == "yesterday")) * DAY
        ledger = (MOVED if state == "moved" else LISTED)[number]
        spend = figures("100" if exhausted else "0")
        epoch = self.epochs[ledger]
        return ExporterAnswer(f"e{number}", start, spend, state != "full", ledger, epoch=epoch)


LOST = NoAnswer("x", "no answer in time")


@dataclass(frozen=True)
class Round:
    """What one round hears. listed: how the exporters are whose silence is not waived.

    complete: every exporter and ledger answers; own: the epochs of the exporters that answered.
    """

    managers: list[Any]
    prometheuses: list[Any]
    heard: list[Heard | None]
    days: tuple[float, ...]
    listed: list[str]
    memory: Memory
    complete: bool
    own: dict[str, int]
    delay: float
    now: float

    def grants(self, evaluated_at: float) -> dict[str, Any]:
        """What is known of grants."""
        memory, told = self.memory, [heard for heard in self.heard if heard]
        agreed = all(memory.known.get(ledger, 0) == epoch for ledger, epoch in self.own.items())
        waits = 3 * max((heard.interval for heard in told), default=0.0) if self.delay else 0.0
        settled = agreed and evaluated_at > memory.granted_at + waits
        return {
            "of_the_grants": all(
                heard.epochs.get(ledger, 0) >= epoch
                for heard in told
                for ledger, epoch in self.own.items()
            ),
            "grants": memory.grants,
            "at_once": self.complete and agreed and (settled or not self.delay),
            "settled": settled,
        }


def evidence(names: tuple[str, ...], round_: Round) -> Evidence:
    """One track's part of what a round hears."""

    def ranks(given: frozenset[str]) -> frozenset[int]:
        return frozenset(rank_of(entry) for entry in given & set(names))

    now, pairs = round_.now, list(zip(round_.prometheuses, round_.heard, strict=True))
    told = [(p, heard) for p, heard in pairs if p and heard]
    able = bool(round_.listed) and not {"away", "full"} & set(round_.listed)
    earliest = min(round_.days) if able else None
    asked = [*(m for m in round_.managers if m is not None), *(p["firing"] for p, _ in told)]
    zeros, wanted, today, evaluated = [], frozenset[int](), frozenset[int](), [math.inf]
    for given, heard in told:
        fresh = heard.at > now - heard.settling - 1
        recorded = fresh and bool(given["zero"] | given["wanted"])
        at = min(now - EVALUATED, heard.at if recorded else now)
        wants = ranks(given["wanted"]) if fresh else frozenset[int]()
        zeros.append(ranks(given["zero"]) - wants if fresh else frozenset[int]())
        wanted |= wants
        evaluated.append(at)
        of_day = earliest is not None and heard.day is not None and heard.day >= earliest
        if of_day and at > (earliest or 0.0) + heard.settling:
            today |= wants
    return Evidence(
        known=None not in round_.managers
        and all(round_.prometheuses)
        and not {"away", "full"} & set(round_.listed)
        and not round_.memory.away(),
        asked=frozenset().union(*map(ranks, asked)),
        zero=frozenset.intersection(*zeros) if zeros else frozenset(),
        wanted=wanted,
        sick=frozenset().union(*(ranks(p["sick"]) for p, _ in told)),
        evaluated_at=min(evaluated),
        days=round_.days,
        all_exporters=able,
        today=today,
        of_today=all(earliest is None or (h.day or 0.0) >= earliest for _, h in told),
        least=max((heard.settling for _, heard in told), default=0.0),
        gap=2 * max((heard.interval for _, heard in told), default=0.0),
        fired=frozenset().union(*(ranks(p["firing"]) for p, _ in told)),
        **round_.grants(min(evaluated)),
    )


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(
    max_examples=examples(40), stateful_step_count=20, deadline=None
)


# The state machine meets these only now and then; each is one condition of the evidence.


@pytest.mark.parametrize("spoilt", SPOILS)
def test_what_is_wrong_for_long_is_judged_as_the_reference_does(spoilt: str) -> None:
    with contextlib.closing(Convergence()) as machine:
        machine.a_fall_with_bad_rounds(
            high=frozenset(LEVELS[1:]), low=frozenset(), spoilt=spoilt, entry="control", at=1,
            seconds=2, day_at=None, late=0, lasting=True,
        )  # fmt: skip


@pytest.mark.parametrize("spoilt", [None, *SPOILS])
@pytest.mark.parametrize("part", [LEVELS[1:1], LEVELS[1:3]])
def test_a_grant_lets_go_as_the_reference_does(spoilt: str | None, part: tuple[str, ...]) -> None:
    with contextlib.closing(Convergence()) as machine:
        machine.a_grant_ends_it(
            high=frozenset(LEVELS[1:]), part=frozenset(part), low=frozenset(), ledger=LISTED[0],
            known_at=2, part_for=2, spoilt=spoilt, exhausted=True,
        )  # fmt: skip
        level = machine.receiver.store.state.level
        assert spoilt or level == ("conserve" if part else "none"), "from control by one hold"


@pytest.mark.parametrize("spoilt", [None, *SPOILS])
@pytest.mark.parametrize("granted", [True, False])
def test_a_revoke_keeps_or_raises_as_the_reference_does(spoilt: str | None, granted: bool) -> None:
    with contextlib.closing(Convergence()) as machine:
        machine.a_revoke_takes_it_back(
            high=frozenset(LEVELS[1:4]), low=frozenset(), ledger=LISTED[0], granted=granted,
            known_at=1, spoilt=spoilt,
        )  # fmt: skip
        assert machine.receiver.store.state.level == "emergency"


@pytest.mark.parametrize("ledger", [UNLISTED, LISTED[0]])
@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize("retired_at", [None, 1])
@pytest.mark.parametrize(("back_at", "day_at"), [(None, None), (9, None), (None, 5)])
def test_a_ledger_that_vanishes_is_missed_as_the_reference_does(
    ledger: str, wiped: bool, retired_at: int | None, back_at: int | None, day_at: int | None
) -> None:
    with contextlib.closing(Convergence()) as machine:
        machine.a_ledger_vanishes(
            high=frozenset(LEVELS[1:4]), low=frozenset(), ledger=ledger, wiped=wiped,
            retired_at=retired_at, back_at=back_at, day_at=day_at, exhausted=True,
        )  # fmt: skip
        ends = day_at is not None and ledger == UNLISTED  # a listed exporter still blocks
        stays = back_at is None and retired_at is None and not ends
        assert (machine.receiver.store.state.level == "emergency") == stays


@pytest.mark.parametrize(("late", "level"), [(0, "none"), (10, "emergency")])
def test_what_the_rules_want_in_a_days_first_moments_may_be_yesterdays(
    late: float, level: str
) -> None:
    with contextlib.closing(Convergence()) as machine:
        high, low = frozenset(LEVELS[1:4]), frozenset[str]()
        for truth in (high, high, low):
            machine.receiver.clock.advance(late)
            machine._truthful_round(truth)
            machine.the_receiver_does_what_the_reference_does()
            if not machine.day:
                machine.a_day_begins(0)
        assert machine.receiver.store.state.level == level

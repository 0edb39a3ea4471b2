"""The ledgers seen today: one that is away keeps what is in force, unless a person retires it.

Prometheus forgets a ledger when it loses its data; the receiver's state file does not.
"""

import logging
from dataclasses import replace

from alertmanager.receiver.evidence.observations import NoAnswer, Observations
from alertmanager.receiver.state import SeenLedger, State
from common.errors import UserError

log = logging.getLogger("receiver")
MAX_LEDGERS = 1_000  # a day; a budget has a few


def follow(state: State, observed: Observations) -> Observations:
    """Remember who was seen, end what is over; the observations without the retired exporters."""
    _end_waivers(state, observed)
    waived = {seen.exporter for seen in state.ledgers.values() if seen.retired}
    gone = [one for one in observed.exporters if isinstance(one, NoAnswer) and one.url in waived]
    exporters = tuple(one for one in observed.exporters if one not in gone)
    observed = replace(observed, exporters=exporters)
    days = observed.days()
    if None not in days:  # every source has reached the earliest of them
        today = min(filter(None, days), default=0.0)
        state.ledgers = {one: seen for one, seen in state.ledgers.items() if seen.day >= today}
    for answer in observed.answered_exporters():
        _remember(state, answer.ledger, answer.day_start, answer.url)
    for ruler in observed.rulers():
        for ledger in sorted(ruler.spent):
            _remember(state, ledger, ruler.day_start or 0.0)
    _follow_months(state, observed)
    _learn_epochs(state, observed)
    return observed


def _follow_months(state: State, observed: Observations) -> None:
    """Remember what each ledger had spent of the running month: Prometheus may forget it."""
    for key, usd in (item for ruler in observed.rulers() for item in ruler.months.items()):
        if key in state.months or len(state.months) < MAX_LEDGERS:
            state.months[key] = max(usd, state.months.get(key, 0))
    running = min(observed.months(), default="")
    state.months = {key: usd for key, usd in state.months.items() if key >= running}


def _forgotten(state: State, observed: Observations) -> list[str]:
    """Ledgers that are gone and whose spend of the running month is not counted any more."""
    live, months = observed.live_ledgers(), observed.months()
    keys = (key.partition("/") for key in sorted(state.months.keys() - observed.month_known()))
    return [ledger for month, _, ledger in keys if month in months and ledger not in live]


def _end_waivers(state: State, observed: Observations) -> None:
    live, latest = observed.live_ledgers(), max(filter(None, observed.days()), default=0.0)
    for ledger, seen in state.ledgers.items():
        if seen.retired and (ledger in live or seen.day < latest):
            log.info("ledger %s is no longer retired: it is back, or the day is over", ledger)
            seen.retired = False


def _learn_epochs(state: State, observed: Observations) -> None:
    """Count the grants and resets that all evidence shows, each once."""
    own = {exporter.ledger: exporter.epoch for exporter in observed.answered_exporters()}
    whole = len(observed.rulers()) == len(observed.prometheuses)
    for ledger, epoch in observed.epochs().items() if whole else ():
        seen = state.ledgers.get(ledger)
        if seen is None:
            continue
        if seen.epoch is None or own.get(ledger, seen.epoch) < seen.epoch:
            seen.epoch = epoch  # first seen, or restored
        elif epoch > seen.epoch:
            state.epoch, seen.epoch = state.epoch + 1, epoch
            state.epoch_at = max(ruler.epochs_at for ruler in observed.rulers())


def standing(state: State, observed: Observations) -> dict[str, str]:
    """Each ledger seen today: retired by a person, live or away."""
    live = observed.live_ledgers()
    return {
        ledger: "retired" if seen.retired else "live" if ledger in live else "away"
        for ledger, seen in sorted(state.ledgers.items())
    }


def problems(state: State, observed: Observations) -> dict[str, str]:
    """What people should know of today's ledgers, in sentences."""
    found = {}
    if away := [one for one, status in standing(state, observed).items() if status == "away"]:
        found["ledgers"] = (
            f"seen today, but neither answering nor fresh in the rules: {_first(away)}; nothing is "
            "lowered until they are back, the day is over, or llm-budget retire LEDGER --reason WHY"
        )
    if forgotten := _forgotten(state, observed):
        found["month"] = (
            f"what they had spent this month is not counted any more: {_first(forgotten)}; nothing "
            "is lowered until llm-budget retire LEDGER --reason WHY hands it to a living ledger"
        )
    if len(state.ledgers) >= MAX_LEDGERS:
        found["too many ledgers"] = f"{MAX_LEDGERS} were seen today; no more are remembered"
    return found


def retire(given: str, state: State, observed: Observations) -> str:
    """Waive a ledger's evidence for the budget day; the request in short, for the audit trail.

    given: its id, or the beginning of it. Raises UserError for one that lives or was not seen. One
    that was seen this month, but not today, has none to waive: its spend can be handed over.
    """
    known = sorted({*state.ledgers, *(key.partition("/")[2] for key in state.months)})
    found = [given] if given in known else [one for one in known if given and one.startswith(given)]
    if len(found) != 1:
        fits = "fits several ledgers" if found else "is no ledger that was seen today or this month"
        raise UserError(f"{given[:80]!r} {fits}; seen: {_first(found or known) or 'none'}")
    ledger = found[0]
    if ledger in observed.live_ledgers():
        raise UserError(f"ledger {ledger} lives: it answers, or its figures in the rules are fresh")
    if seen := state.ledgers.get(ledger):
        seen.retired, seen.day = True, max([seen.day, *filter(None, observed.days())])
    return f"retire {ledger}"


def _remember(state: State, ledger: str, day: float, exporter: str = "") -> None:
    """exporter: the address that it answers at; whoever answered there before has moved out."""
    if not ledger or (ledger not in state.ledgers and len(state.ledgers) >= MAX_LEDGERS):
        return
    seen = state.ledgers.setdefault(ledger, SeenLedger(day))
    seen.day = max(seen.day, day)
    if exporter and seen.exporter != exporter:
        for other in state.ledgers.values():
            other.exporter = "" if other.exporter == exporter else other.exporter
        seen.exporter = exporter


def _first(ledgers: list[str]) -> str:
    return ", ".join([*ledgers[:5], *(["…"] if ledgers[5:] else [])])

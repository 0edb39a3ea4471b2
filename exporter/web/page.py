"""The status page, from the books and from what receiver and Prometheus say."""

import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from common import names
from common.budget_status import BudgetStatus
from common.money import shown, usd
from exporter.budget.calendars import BudgetDay
from exporter.composition import Exporter
from exporter.ledger.course import Course
from exporter.web.chart import chart
from exporter.web.peers import Said
from exporter.web.status import budget_status

PAST_DAYS = 14
WORDS = {"critical": "CRITICAL", "warning": "WARNING", "half": "INFO"}  # of thresholds passed
_URGENCY = {"critical": 0, "warning": 1, "info": 2}
_FORECAST = {"today": names.FORECAST, "low": names.FORECAST_LOW, "high": names.FORECAST_HIGH}
_FOLDER = Path(__file__).parent / "templates"
_CODE = {name: (_FOLDER / f"status.{name}").read_text() for name in ("css", "js")}
_CSS, _JS = (b64encode(sha256(code.encode()).digest()).decode() for code in _CODE.values())
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_CSS}'; script-src 'sha256-{_JS}'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def visible(text: object) -> str:
    """Text whose control characters and turns of direction are seen instead of obeyed."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # but for the joiners of Persian words and emoji
    return "".join(
        f"\u27e8U+{ord(one):04X}\u27e9"
        if unicodedata.category(one) in hidden and one not in "\u200c\u200d"
        else one
        for one in str(text)
    )


_PAGES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True)
_PAGES.filters |= {"money": lambda amount: shown(Decimal(amount)), "visible": visible}
_PAGES.globals |= {name: Markup(code) for name, code in _CODE.items()}  # noqa: S704  our own
_PAGE = _PAGES.get_template("status.html")  # once: a newer one on disk is for newer code


def render(
    exporter: Exporter, said: Said, thresholds: Mapping[str, float], links: Mapping[str, str]
) -> str:
    """The page. thresholds: shares of the limit by name, if known; links: URLs by their names."""
    today, status = exporter.ledger.today(), budget_status(exporter)
    foretold = said if said.value(names.RULES_DAY) == today.start else Said()
    found = {case: foretold.value(name) for case, name in _FORECAST.items()}
    forecast = {case: value for case, value in found.items() if value is not None}
    with exporter.ledger.books.lock:
        course = Course(exporter.ledger.books.courses.get(today.date))
        past = list(_past(exporter, today))
    alerts = [one.metric for one in said.samples if one.metric.get("__name__") == "ALERTS"]
    month = [one for one in past if one[0].month == today.date.month]
    zone, whole = ZoneInfo(status.day.timezone), _whole(foretold)
    own = float(status.utilization), status.remaining, status.limit
    used, left, limit = max(own, whole or own)
    exhaustion = foretold.values(names.EXHAUSTION, "case") if left > 0 else {}
    return _PAGE.render(
        status=status, used=used, left=left, limit=limit, others=whole, said=said, links=links,
        state=state(status, thresholds, used), forecast=forecast, exhaustion=exhaustion,
        chart=chart(status, course, *(({}, {}) if whole else (forecast, exhaustion)), thresholds),
        caps=_caps(status),
        past=past[:PAST_DAYS], month=month,
        alerts=sorted(alerts, key=lambda one: _URGENCY.get(one.get("severity", ""), 3)),
        rejects=_rejects(exporter), balance=list(_balance(exporter)),
        open=exporter.settings.tokens.metrics is None,
        clock=lambda at, form="%H:%M": _clock(at, zone, form),
    )  # fmt: skip


def state(status: BudgetStatus, thresholds: Mapping[str, float], used: float) -> str:
    """The page's first word. What cannot be booked is not OK; without thresholds it is unknown."""
    if status.exhausted or used >= thresholds.get("exhausted", 1):
        return "EXHAUSTED"
    if not status.writable:
        return "CRITICAL"
    passed = (word for name, word in WORDS.items() if used > thresholds.get(name, used))
    return next(passed, "OK" if thresholds else "UNKNOWN")


def _whole(said: Said) -> tuple[float, Decimal, Decimal] | None:
    """Where other ledgers spend the budget, too: the share that is gone, USD left, the limit."""
    several = (said.value("") or 0) > 1  # the query counts ledgers
    records = (names.UTILIZATION, names.REMAINING, names.LIMIT)
    used, left, limit = (said.value(record) for record in records)
    if not several or used is None or left is None or limit is None:
        return None
    return used, Decimal(str(left)), Decimal(str(limit))


def _clock(at: str | float, zone: ZoneInfo, form: str) -> str:
    """An instant (Unix seconds, RFC 3339) in the budget's zone; what is none stays as it is."""
    try:
        at = datetime.fromisoformat(at).timestamp() if isinstance(at, str) else at
        return datetime.fromtimestamp(at, zone).strftime(form)
    except (ArithmeticError, OSError, TypeError, ValueError):
        return str(at)


def _past(exporter: Exporter, today: BudgetDay) -> Iterator[tuple[date, Decimal, bool]]:
    """(day, cost, whether all of it was seen) before today, newest first; with the lock held."""
    books, calendars = exporter.ledger.books, exporter.ledger.calendars
    for ago in range(1, max(PAST_DAYS + 1, today.date.day)):
        past = today.date - timedelta(days=ago)
        day, cost = calendars.on(past), books.courses.get(past, Course()).total()
        unseen = {
            kind for kind, began, ended in books.gaps if began < day.end and ended > day.start
        }
        if day.date == past:  # a change of zone skips one
            yield past, Decimal(usd(cost)), "usage" not in unseen


def _caps(status: BudgetStatus) -> list[tuple[str, Decimal, float]]:
    """(name, cap, share of it that is spent), the fullest first."""
    fields = (status.by_field, status.field_limits_usd)
    found = [
        (name, cap, float(spend.get(name, Decimal(0)) / cap) if cap else 1.0)
        for spend, caps in ((status.by_roaster, status.roaster_limits_usd), fields)
        for name, cap in caps.items()
    ]
    return sorted(found, key=lambda one: -one[2])


def _rejects(exporter: Exporter) -> Counter[str]:
    """Events refused since the start, by reason."""
    counts: Counter[str] = Counter()
    for sample in next(iter(exporter.intake.rejected.collect())).samples:
        if sample.name == names.INGEST_REJECTED:
            counts[sample.labels["reason"]] += int(sample.value)
    return +counts


def _balance(exporter: Exporter) -> Iterator[str]:
    """What the provider says, if it is asked."""
    for sample in (one for family in exporter.provider.collect() for one in family.samples):
        if sample.name == names.PROVIDER_AVAILABLE and not sample.value:
            yield "not available"
        elif sample.labels.get("kind") == "total":
            unit = sample.labels.get("currency")
            yield f"{unit} {sample.value:,.2f}" if unit else shown(Decimal(str(sample.value)))

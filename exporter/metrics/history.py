"""Past days as facts: what each had cost by this time of day, then hour by hour, and at its end."""

from collections.abc import Iterator
from datetime import timedelta

from exporter.budget.calendars import BudgetDay, Calendars
from exporter.ledger.books import Books
from exporter.ledger.course import NO_SLOT, Course, spent

DAYS_AGO = (*range(1, 8), 14, 21, 28)  # the last week, and the same weekday of the weeks before
HOURS = range(0, 25, 2)
LENGTHS = range(22 * 3600, 26 * 3600 + 1)  # others were stretched or cut by a change of zone


def past_days(
    books: Books, calendars: Calendars, today: BudgetDay, now: float
) -> Iterator[tuple[int, int, dict[str, int]]]:
    """(days ago, its start in Unix seconds, its pico-dollars by the label `by`).

    now: in Unix seconds. Call it with the books' lock held. Days not seen whole are left out; of
    one known by its total only there is just `end`.
    """
    later = [max(int(now) - today.start, 0) + hours * 3600 for hours in HOURS]
    for ago in DAYS_AGO:
        day = calendars.on(date := today.date - timedelta(days=ago))
        length = day.end - day.start
        gaps = {kind for kind, began, ended in books.gaps if began < day.end and ended > day.start}
        if day.date != date or length not in LENGTHS or "usage" in gaps:
            continue
        course = books.courses.get(date, Course())
        spend = {"end": course.total()}
        if not gaps and not course[NO_SLOT]:  # a clock that was ahead may have cost it its slots
            spend |= zip(map(str, HOURS), spent(course, length, later), strict=True)
        yield ago, day.start, spend

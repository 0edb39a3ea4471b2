"""What the demo shows: a live picture on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 60
ROWS_BESIDE_TABLES = 12  # the frame, the bar and the lines under it, the blank ones, a wrapped line
COLOURS = ("green", "cyan", "yellow", "dark_orange", "red")  # of levels, the mildest first


@dataclass
class Picture:
    """One moment of the loop."""

    seconds: float
    day: str
    spend_usd: Decimal
    limit_usd: Decimal
    level: str
    by_roaster: dict[str, str]
    alerts: list[str]
    news: list[str] = field(default_factory=list)

    @property
    def utilization(self) -> float:
        return float(self.spend_usd / self.limit_usd)


class View:
    """Shows pictures; `with View(...) as view: view.show(picture)`."""

    def __init__(
        self, console: Console, thresholds: dict[str, Decimal], levels: Sequence[str]
    ) -> None:
        """levels: the ladder's, the mildest first."""
        self.console = console
        self.colours = dict(zip(levels, COLOURS, strict=False))
        self.thresholds = thresholds
        self.history: list[str] = []
        live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=4) if live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, picture: Picture) -> None:
        """Redraw, or print what is new."""
        self.history += picture.news
        if self._live:
            self._live.update(self._layout(picture))
            return
        for line in picture.news:
            self.say(f"{'' if line.startswith(' ') else self._prefix(picture)}  {line}")

    def tick(self, picture: Picture) -> None:
        """A plain progress line, where there is no live picture."""
        if not self._live:
            self.say(self._prefix(picture))

    def _prefix(self, picture: Picture) -> str:
        return (
            f"{picture.seconds:5.1f} s  {picture.utilization:6.1%}  ${picture.spend_usd:.4f}  "
            f"level {picture.level}"
        )

    def _layout(self, picture: Picture) -> Panel:
        roasters = Table("roaster", "spend USD", box=None)
        for name, amount in list(picture.by_roaster.items())[:6]:
            roasters.add_row(name, f"{Decimal(amount):.4f}")
        colour = self.colours.get(picture.level, "white")
        filled = min(BAR_WIDTH, round(picture.utilization * BAR_WIDTH))
        bar = Text("█" * filled, style=colour).append("░" * (BAR_WIDTH - filled), style="dim")
        # The last lines of history, as many as the terminal has room for below the rest.
        room = self.console.height - ROWS_BESIDE_TABLES - roasters.row_count
        newest = self.history[-min(max(room, 3), 14) :]
        body = Group(
            bar.append(f" {picture.utilization:.1%}"),
            self._marks(),
            Text(f"${picture.spend_usd:.4f} of ${picture.limit_usd:.2f}"),
            Text("level  ").append(picture.level, style=f"bold {colour}"),
            Text(f"alerts {', '.join(picture.alerts) or '-'}"),
            Text(),
            roasters,
            Text(),
            *(Text(line, overflow="ellipsis", no_wrap=True) for line in newest),
        )
        return Panel(body, title=f"llm-budget · day {picture.day} · {picture.seconds:.0f} s")

    def _marks(self) -> Text:
        marks = [" "] * (BAR_WIDTH + 6)
        for ratio in self.thresholds.values():
            at = round(float(ratio) * BAR_WIDTH)
            label = f"|{ratio:.0%}"
            marks[at - 1 : at - 1 + len(label)] = label
        return Text("".join(marks), style="dim")


def changes(before: dict[str, Any], after: dict[str, Any], path: str = "") -> list[str]:
    """What differs between two configs, as "key: old -> new" lines."""
    lines = []
    for key in before | after:
        name = f"{path}{key}"
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changes(old, new, f"{name}.")
        elif old != new:
            # A whole section, such as a roaster's override, is shown by its size.
            was, now = (f"{len(it)} keys" if isinstance(it, dict) else it for it in (old, new))
            lines.append(f"{name}: {was} -> {now}")
    return lines

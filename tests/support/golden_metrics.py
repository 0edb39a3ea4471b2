"""The golden /metrics page: what a small fixed ledger publishes.

`make golden` writes it anew after a change that is meant; read the diff.
"""

import re
import tempfile
from pathlib import Path

from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "data" / "golden_metrics.txt"
CONFIG = """
budget: {daily_limit_usd: 60.3, reserve_usd: 10, timezone: Europe/Berlin, day_starts_at: "06:00",
         roasters: {blue-tokai: 12.5}, fields: {notes: 40},
         monthly_limit_usd: 900, monthly_spread: even}
limits: {fields: 2}
"""
# What differs from run to run: the random id and the file's size.
VARYING = (
    (r'\bledger="[0-9a-f]{16}"', 'ledger="0123456789abcdef"'),
    (r"(?m)^llm_ledger_size_bytes \S+$", "llm_ledger_size_bytes 65536.0"),
)


def page(folder: Path) -> str:
    """The page of an exporter to which everything has happened that moves a metric."""
    with Exporter(folder, CONFIG, NOON - 2 * 86_400, tokens=True) as exporter:
        token = {"Authorization": f"Bearer {INGEST}"}
        hostile = 'say "hi" \\ {x="y"} # HELP'
        calls = [
            event(id="a", duration_seconds=1.92, batch_items=4, batch_slots=5),
            event(500, 20, cached=400, id="b", roaster="subko", field="tags"),
            event(0, 0, outcome="cached", roaster="subko", field="tags"),
            event(100, 0, outcome="error", estimated=True, roaster=hostile),
            event(10, 1, outcome="fallback", at=NOON - 86_400),
            event(10, 1, at=NOON + 60),
            event(7, 3, model="nobody-prices-this", duration_seconds=75),
            event(field="weight"),
            event(field="beyond-the-cap"),
            event(id="a"),  # conflict
            event(500, 20, cached=400, id="b", roaster="subko", field="tags"),  # duplicate
            event(-1),
            event(roaster="a\nb"),
            event(time="then"),
            event(10, 1, cached=11),
            event(time="2020-01-01T00:00:00Z"),
            event(outcome="rate_limited") | {"usage": None},
        ]
        past = [event(500, 1, at=NOON - 86_400 + hours * 3600) for hours in (-3, 1, 20)]
        exporter.clock.advance(2 * 86_400)
        for batch in (past, calls):
            assert exporter.post(batch, **token).status_code == 200
        admin = {"Authorization": f"Bearer {ADMIN}"}
        said = {"reason": "golden", "author": "tests"}
        grant = {**said, "amount_usd": "5"}
        own = {**grant, "roaster": "blue-tokai"}
        for path, body in (("resets", said), ("grants", grant), ("grants", own)):
            answer = exporter.http.post(f"/api/v1/{path}", json=body, headers=admin)
            assert answer.status_code == 200
        text = exporter.http.get("/metrics").text
    for pattern, fixed in VARYING:
        text = re.sub(pattern, fixed, text)
    return text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(page(Path(folder)))

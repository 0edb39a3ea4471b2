"""One roaster over its part: it alone is throttled, and let go on evidence. Real binaries."""

from pathlib import Path

from tests.support.loop import LIMIT, Call, Loop
from tests.support.waiting import until

ENTRY = "roaster/blue-tokai"


def test_a_roaster_over_its_allocation_is_throttled_alone_and_let_go(tmp_path: Path) -> None:
    """Of a dollar without its reserve of 20 cents, two new roasters have 40 cents each."""
    with Loop(tmp_path) as loop:
        loop.send([Call.worth(LIMIT // 100)], roaster="naivo")
        loop.send([Call.worth(LIMIT * 40 // 100)])
        until(
            lambda: loop.query('llm_degradation_wanted{roaster="blue-tokai"} == 0'),
            what="the word that exactly its part is not too much",
        )
        loop.send([Call.worth(LIMIT // 100)])
        until(lambda: loop.state()["tunings"] == [ENTRY], what="its tuning in force")
        assert loop.state()["level"] == "none"
        assert set(loop.effective()["roasters"]) == {"blue-tokai"}
        assert loop.query('llm_degradation_wanted{roaster="naivo"} == 0')

        loop.grant("0.10")  # 45 cents each
        until(lambda: loop.state()["tunings"] == [], timeout=60, what="the tuning lifted")
        assert "blue-tokai" not in loop.effective().get("roasters", {})

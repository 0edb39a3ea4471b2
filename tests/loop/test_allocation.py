"""One roaster over its part: it alone is throttled, and let go on evidence. Real binaries."""

from decimal import Decimal
from pathlib import Path

import requests

from alertmanager.receiver.ladder.effective import config_for
from tests.support.loop import LIMIT, Call, Loop
from tests.support.waiting import until

ENTRY = "roaster/blue-tokai"


def test_a_roaster_over_its_allocation_is_throttled_alone_and_let_go(tmp_path: Path) -> None:
    """Of a dollar without its reserve of 20 cents, two new roasters have 40 cents each."""
    with Loop(tmp_path) as loop:
        loop.send([Call.worth(LIMIT // 100)], roaster="naivo")
        loop.send([Call.worth(LIMIT * 40 // 100)])
        until(
            lambda: loop.query('llm_degradation_wanted{scope="blue-tokai"} == 0'),
            what="the word that exactly its part is not too much",
        )
        loop.send([Call.worth(LIMIT // 100)])
        until(lambda: loop.state()["tunings"] == [ENTRY], what="its tuning in force")
        assert loop.state()["level"] == "none"
        assert set(loop.effective()["roasters"]) == {"blue-tokai"}
        assert loop.query('llm_degradation_wanted{scope="naivo"} == 0')

        loop.grant("0.10")  # 45 cents each
        until(lambda: loop.state()["tunings"] == [], timeout=60, what="the tuning lifted")
        assert "blue-tokai" not in loop.effective().get("roasters", {})


def test_a_roaster_and_a_field_at_their_caps_stop_alone_and_a_raised_cap_lets_go(
    tmp_path: Path,
) -> None:
    caps = {"roasters": {"naivo": Decimal("0.04")}, "fields": {"tags": Decimal("0.05")}}
    with Loop(tmp_path, caps=caps) as loop:
        loop.send([Call.worth(LIMIT * 3 // 100)], roaster="naivo")
        until(lambda: loop.state()["tunings"] == ["roaster/naivo"], what="cost controls at 75 %")
        loop.send([Call.worth(LIMIT // 100)], roaster="naivo")
        loop.send([Call.worth(LIMIT * 5 // 100)], field="tags")
        all_three = ["field_stop/tags", "roaster/naivo", "roaster_stop/naivo"]
        until(lambda: loop.state()["tunings"] == all_three, what="both stops in force")
        config = loop.effective()
        assert (loop.level(), set(config["roasters"])) == ("none", {"naivo"})
        assert (config["enabled"], config_for(config, "naivo")["enabled"]) == (True, False)
        on = {field: one["enabled"] for field, one in config["field_configs"].items()}
        assert (on["tags"], on["notes"]) == (False, True)
        assert {"LLMRoasterCapReached", "LLMFieldCapReached"} <= loop.firing()
        assert loop.audit()[-1]["tunings"] == all_three

        budget = tmp_path / "budget.yml"
        budget.write_text(budget.read_text().replace("naivo: 0.04", "naivo: 0.05"))
        headers = {"Authorization": f"Bearer {loop.bundle.token('admin')}"}
        url = f"{loop.bundle.url('exporter')}/-/reload"
        requests.post(url, headers=headers, timeout=30).raise_for_status()
        left = ["field_stop/tags", "roaster/naivo"]  # still above three quarters
        until(lambda: loop.state()["tunings"] == left, timeout=60, what="the stop lifted")
        assert config_for(loop.effective(), "naivo")["enabled"] is True


def test_a_grant_for_a_roaster_lets_it_go_at_once(tmp_path: Path) -> None:
    with Loop(tmp_path, hold="600", caps={"roasters": {"naivo": Decimal("0.04")}}) as loop:
        loop.send([Call.worth(LIMIT * 4 // 100)], roaster="naivo")
        both = ["roaster/naivo", "roaster_stop/naivo"]
        until(lambda: loop.state()["tunings"] == both, what="the stop in force")
        loop.grant("0.01", roaster="naivo")
        until(lambda: loop.state()["tunings"] == both[:1], what="the stop lifted without a hold")
        assert loop.status()["limit_usd"] == "1"
        loop.grant("0.02", roaster="naivo")
        until(lambda: loop.state()["tunings"] == [], what="and the cost controls")

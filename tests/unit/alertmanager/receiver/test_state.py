"""Which of override, backstop and alerts decides the level."""

from alertmanager.receiver.state import Active, Override, State
from tests.support.ladders import shipped_ladder
from tests.support.receivers import NOW

LADDER = shipped_ladder()


def test_a_persons_override_beats_the_backstop_and_the_backstop_the_alerts() -> None:
    state = State(level="control", backstop=Active())
    assert state.in_force(LADDER, NOW).level == "fallback"
    state.override = Override("pin", "none", "r", "a", NOW, NOW + 60)
    assert state.in_force(LADDER, NOW).level == "none"
    assert state.in_force(LADDER, NOW + 60).level == "fallback"  # its time is over
    floor = State(level="control", override=Override("degrade", "emergency", "r", "a", NOW))
    assert floor.in_force(LADDER, NOW).level == "emergency"
    floor.level = "fallback"
    assert floor.in_force(LADDER, NOW).level == "fallback"

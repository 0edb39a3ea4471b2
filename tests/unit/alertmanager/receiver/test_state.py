"""Which of override, backstop and alerts decides the level."""

from alertmanager.receiver.state import Active, Override, State, in_force
from tests.support.ladders import shipped_ladder
from tests.support.receivers import NOW

LADDER = shipped_ladder()


def test_a_persons_override_beats_the_backstop_and_the_backstop_the_alerts() -> None:
    state = State(level="control", backstop=Active())
    assert in_force(state, LADDER, NOW).level == "fallback"
    state.override = Override("pin", "none", "r", "a", NOW, NOW + 60)
    assert in_force(state, LADDER, NOW).level == "none"
    assert in_force(state, LADDER, NOW + 60).level == "fallback"  # its time is over
    floor = State(level="control", override=Override("degrade", "emergency", "r", "a", NOW))
    assert in_force(floor, LADDER, NOW).level == "emergency"
    floor.level = "fallback"
    assert in_force(floor, LADDER, NOW).level == "fallback"

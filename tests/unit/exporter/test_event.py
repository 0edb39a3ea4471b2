"""Usage events; what is refused and why is in intake/test_http.py."""

from typing import Any

import pytest

from exporter.event import OUTCOMES, EventError, parse_event
from exporter.ledger.books import COLUMNS
from sdk.client import OUTCOMES as CLIENT_OUTCOMES
from tests.support.exporters import NOON, event


def test_accounts_and_client_know_every_outcome() -> None:
    assert set(OUTCOMES) <= set(COLUMNS)
    assert set(CLIENT_OUTCOMES) == set(OUTCOMES)


def call(usage: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "a",
        "outcome": "success",
        "time": "2027-01-15T12:00:00Z",
        "roaster": "r",
        "field": "notes",
        "model": "deepseek-chat",
        "usage": usage,
        **more,
    }


@pytest.mark.parametrize(
    ("event", "digest"),
    [
        (
            call({"prompt_tokens": 812, "completion_tokens": 143, "prompt_cache_hit_tokens": 512,
                  "total_tokens": 955}),
            "dc5f9c45da1a3e126ee1583568b63d01",
        ),
        (
            call({"prompt_tokens": 812, "completion_tokens": 9,
                  "prompt_tokens_details":
                      {"cached_tokens": 512, "audio_tokens": 0, "cache_write_tokens": 100},
                  "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": None}}),
            "4f3a64ed150ea68d32f408297f6bf353",
        ),
        (
            call({"prompt_tokens": 812, "completion_tokens": 0, "prompt_tokens_details": None,
                  "completion_tokens_details": {}}),
            "cce207c25f58f89ff94c518674f38041",
        ),
        (call(outcome="error"), "c1abd675336a0b9e4c7983d442da0f3d"),
        (call({}, outcome="error"), "b8cceb9e438e78de320de6e95a3ed656"),
    ],
)  # fmt: skip
def test_an_event_that_an_older_version_booked_is_known_again(
    event: dict[str, Any], digest: str
) -> None:
    """The digests are those that ledgers hold: of the version that knew OpenAI's keys only."""
    assert parse_event(event, 2e9).content.hex() == digest


@pytest.mark.parametrize(
    "usages",
    [
        ({"input_tokens": 5}, {"input_tokens": 6}),
        ({"input_tokens": 5, "output_tokens": 1}, {"input_tokens": 5, "output_tokens": 2}),
        ({"prompt_tokens": 5, "total_tokens": 5}, {"prompt_tokens": 5, "total_tokens": 6}),
        (
            {"prompt_tokens": 5, "cache_creation_input_tokens": 4},
            {"prompt_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 4}},
        ),
    ],
)
def test_events_that_differ_in_any_spelling_are_told_apart(usages: Any) -> None:
    one, other = (parse_event(call(usage), 2e9).content for usage in usages)
    assert one != other


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}, {"total_tokens": 9}, {"n": 1}])
def test_a_success_that_cannot_be_counted_is_refused_and_known_as_spent(usage: Any) -> None:
    with pytest.raises(EventError) as refusal:
        parse_event(call(usage), 2e9)
    assert (refusal.value.reason, refusal.value.success) == ("usage", True)
    assert all(key in str(refusal.value) for key in usage or ())


def test_a_failure_may_have_no_usage_but_none_that_cannot_be_counted() -> None:
    for usage in (None, {}, {"prompt_tokens": 0, "completion_tokens": 0}):
        assert parse_event(call(usage, outcome="error"), 2e9).tokens == 0
    with pytest.raises(EventError) as refusal:
        parse_event(call({"total_tokens": 9}, outcome="error"), 2e9)
    assert not refusal.value.success


def test_an_estimate_or_a_share_may_lack_the_prompt() -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 5}
    assert parse_event(call(usage, estimated=True), 2e9).tokens == 5
    assert parse_event(call(usage, share=True), 2e9).tokens == 5
    assert parse_event(call({"prompt_tokens": 0}, share=True), 2e9).tokens == 0


def test_a_plain_service_tier_is_no_other_content_and_another_tier_is() -> None:
    plain = parse_event(event(), NOON)
    for said in ("default", "auto", " Standard", "on_demand", "", None):
        assert parse_event(event(service_tier=said), NOON) == plain
    flex = parse_event(event(service_tier="flex"), NOON)
    assert (flex.product, flex.content == plain.content) == ("deepseek-chat:flex", False)
    told = event(model="m:flex", service_tier="FLEX")
    assert parse_event(told, NOON).product == "m:flex"
    assert parse_event(event(service_tier="x" * 99), NOON).product == "deepseek-chat:unknown"


@pytest.mark.parametrize(
    ("late", "live"), [(0, True), (60, True), (60.001, False), (-60, True), (-60.001, False)]
)
def test_an_event_is_live_within_a_minute_of_its_own_time(late: float, live: bool) -> None:
    """A clock that is ahead makes an old call look new, so a time in the future is no proof."""
    assert parse_event(event(at=NOON), NOON + late).live is live
    assert parse_event(event(), NOON).live

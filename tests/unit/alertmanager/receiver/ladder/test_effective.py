"""The ladder: each level as the runbook has it, the safe directions, and what a mistake says."""

from copy import deepcopy
from decimal import Decimal
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import config_for, effective, merge
from alertmanager.receiver.ladder.ladder import parse_ladder
from alertmanager.receiver.ladder.sides import safe
from common.errors import UserError
from common.yamlfile import dump
from tests.support.ladders import LADDER_FILE, shipped_baseline, shipped_ladder

LADDER = shipped_ladder()
BASELINE = shipped_baseline()


def at(level: str, *tunings: str, **baseline: Any) -> dict[str, Any]:
    return effective(LADDER, merge(BASELINE, baseline), level, tunings).document


def test_none_is_the_baseline_itself_and_the_baseline_is_never_touched() -> None:
    before = deepcopy(BASELINE)
    assert at("none") == BASELINE
    at("fallback", "roaster/naivo", "batch_up")
    assert before == BASELINE


def test_conserve_optimizes_and_limits_nothing() -> None:
    changed = {key for key, value in at("conserve").items() if value != BASELINE[key]}
    assert changed == {
        "enable_dynamic_rate_limiting",
        "rate_limit_adjustment_factor",
        "enable_cost_aware_processing",
        "cost_threshold_per_request",
        "enable_smart_batching",
        "batch_optimization_threshold",
        "enable_field_prioritization",
        "field_priority_order",
    }


@pytest.mark.parametrize(
    ("level", "path", "baseline", "expected"),
    [
        ("control", "batch_size", 1, 1),  # at least 1
        ("control", "batch_size", 7, 3),  # rounded down
        ("control", "cache_ttl_seconds", 90_000, 90_000),  # at least 7200 never lowers
        ("control", "max_queue_size", 20, 20),  # at most 100 never raises
        ("control", "daily_budget_limit", Decimal("100.0"), Decimal("50.0")),
        ("control", "confidence_threshold", "0.80", "0.85"),  # exactly: decimals, not floats
        ("control", "confidence_threshold", "0.93", "0.95"),  # the cap
        ("control", "confidence_threshold", "0.97", "0.97"),  # above the cap: untouched
        ("emergency", "confidence_threshold", "0.93", "0.95"),  # its lower cap lowers nothing
        ("emergency", "rate_limit_per_minute", 1, 1),
        ("conserve", "cost_threshold_per_request", Decimal("0.01"), Decimal("0.01")),
        ("conserve", "rate_limit_adjustment_factor", Decimal("0.51"), Decimal("0.51")),
        ("conserve", "batch_optimization_threshold", 1, 1),
        ("fallback", "fallback_threshold", Decimal("0.7"), Decimal("0.7")),
        ("fallback", "enabled", False, False),
    ],
)
def test_an_operation_moves_only_in_its_safe_direction(
    level: str, path: str, baseline: Any, expected: Any
) -> None:
    if path == "confidence_threshold":
        document = at(level, field_configs={"weight": {path: Decimal(baseline)}})
        assert document["field_configs"]["weight"][path] == Decimal(expected)
    else:
        assert at(level, **{path: baseline})[path] == expected


def test_a_field_that_is_off_stays_off() -> None:
    document = at("emergency", field_configs={"weight": {"enabled": False}})
    off = {name for name, value in document["field_configs"].items() if not value["enabled"]}
    assert off == {"weight", "notes", "tags", "sensory"}


def test_asking_below_mirrors_every_raise() -> None:
    ladder = shipped_ladder(confidence_threshold="ask_below")
    baseline = merge(
        BASELINE, {"field_configs": {"weight": {"confidence_threshold": Decimal("0.08")}}}
    )
    fields = effective(ladder, baseline, "emergency").document["field_configs"]
    assert fields["roast"]["confidence_threshold"] == Decimal("0.55")  # 0.70 - 0.05 - 0.10
    # 0.08 - 0.05 stops at 1 - 0.95; the floor 1 - 0.90 of the next level raises nothing.
    assert fields["weight"]["confidence_threshold"] == Decimal("0.05")


READ = "levels: [{level: a, raise: {x.*: {by: 0.1, up_to: 0.9}, y: {by: 0.1, up_to: 0.9%s}}}]%s"


@pytest.mark.parametrize(
    ("own", "all_others", "x", "y"),
    [
        ("", "", "0.80", "0.80"),
        (", reading: ask_below", "", "0.80", "0.60"),
        (", reading: accept_above", "\nconfidence_threshold: ask_below", "0.60", "0.80"),
        ("", "\nconfidence_threshold: ask_below", "0.60", "0.60"),
    ],
)
def test_an_operation_may_read_a_threshold_in_its_own_way(
    own: str, all_others: str, x: str, y: str
) -> None:
    ladder = parse_ladder((READ % (own, all_others)).encode(), Path("ladder.yml"))
    document = effective(ladder, {"x": {"n": Decimal("0.70")}, "y": Decimal("0.70")}, "a").document
    assert (document["x"]["n"], document["y"]) == (Decimal(x), Decimal(y))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (READ % ("", ""), True),
        (READ % (", reading: ask_below", ""), True),  # x still has none
        (READ % ("", "\nconfidence_threshold: accept_above"), False),
        ("levels: [{level: a, raise: {x: {by: 0.1, up_to: 1, reading: ask_below}}}]", False),
        ("levels: [{level: a, at_most: {x: 1}}]", False),  # no threshold is moved
        ("levels: [{level: a}]\ntunings: [{tuning: t, raise: {x: {by: 0.1, up_to: 1}}}]", True),
    ],
)
def test_the_reading_is_asked_for_until_every_threshold_has_one(text: str, asked: bool) -> None:
    assert bool(parse_ladder(text.encode(), Path("ladder.yml")).question) == asked


def test_one_threshold_has_one_reading_in_levels_and_tunings() -> None:
    text = b"""levels: [{level: a, raise: {f.*.n: {by: 0.1, up_to: 0.9, reading: ask_below}}}]
tunings: [{tuning: t, scope: field, raise: {"f.{field}.n": {by: 0.1, up_to: 0.9}}}]
"""
    (fault,) = safe(parse_ladder(text, Path("ladder.yml")), Path("ladder.yml"))[1]
    assert fault.startswith("ladder.yml: tuning t: raise.f.{field}.n raises it, but level a: raise")


def test_dropped_keys_are_listed_and_no_ops_named() -> None:
    small = {"enabled": True, "batch_size": 4, "field_configs": {"weight": {"enabled": True}}}
    kept = effective(LADDER, small, "fallback")
    assert kept.document["fallback_to_deterministic"] is True
    assert "max_queue_size" in kept.no_ops
    assert "field_configs.notes" in kept.no_ops
    dropped = effective(shipped_ladder(extra_keys="drop"), small, "fallback")
    assert set(dropped.document) == set(small)
    assert "fallback_to_deterministic" in dropped.dropped
    assert dropped.document["enabled"] is False


def test_a_constant_goes_wherever_its_path_leads_but_over_no_mapping_and_no_other_kind() -> None:
    text = b"""levels:
  - level: a
    set:
      field_configs.*.cheap: true
      field_configs: nothing
      roasters: nothing
      limit: {to: 5, keep: lower}
      share: {to: 0.5, keep: lower}
      words: {to: 5, keep: lower}
"""
    fields = {"weight": {"enabled": True}, "notes": {}}
    baseline = {"field_configs": fields, "limit": 9, "words": "nine", "roasters": {}}
    found = effective(parse_ladder(text, Path("ladder.yml")), baseline, "a")
    assert found.document == {
        "field_configs": {"weight": {"enabled": True, "cheap": True}, "notes": {"cheap": True}},
        "limit": 5,
        "share": Decimal("0.5"),
        "words": "nine",
        "roasters": {},
    }
    assert found.no_ops == ("field_configs", "words")
    assert "limit: 5\n" in dump(found.document, Path("effective.yml")).decode()


def test_the_roaster_tuning_controls_that_roaster_only() -> None:
    document = at("none", "roaster/naivo")
    assert config_for(document, "naivo") | {"roasters": {}} == at("control")
    assert config_for(document, "blue-tokai") | {"roasters": {}} == BASELINE


def test_a_stopped_roaster_has_the_deterministic_parser_alone() -> None:
    for tunings in (["roaster_stop/naivo"], ["roaster/naivo", "roaster_stop/naivo"]):
        document = at("none", *tunings)
        assert config_for(document, "naivo") | {"roasters": {}} == at("fallback")
        assert config_for(document, "naivo")["enabled"] is False
        assert config_for(document, "blue-tokai") | {"roasters": {}} == BASELINE
    own = {"naivo": {"enabled": True, "batch_size": 40}}
    stopped = config_for(at("none", "roaster_stop/naivo", roasters=own), "naivo")
    assert (stopped["enabled"], stopped["batch_size"]) == (False, 20)


def test_of_level_and_tunings_the_most_restrictive_counts_once() -> None:
    for level in LADDER.names:
        document = at(level, "roaster/naivo", "roaster_stop/blue-tokai")
        most = max(level, "control", key=LADDER.rank)
        assert config_for(document, "naivo") | {"roasters": {}} == at(most)
        assert config_for(document, "blue-tokai") | {"roasters": {}} == at("fallback")
        assert config_for(document, "subko") | {"roasters": {}} == at(level)
    assert config_for(at("control", "roaster/naivo"), "naivo")["batch_size"] == 5, "not 2"


def test_a_stopped_field_is_off_alone_for_every_roaster() -> None:
    own = {"naivo": {"field_configs": {"notes": {"enabled": True}}}}
    document, before = at("none", "field_stop/notes", roasters=own), at("none", roasters=own)
    for roaster in ("naivo", "blue-tokai"):
        config, was = config_for(document, roaster), config_for(before, roaster)
        was["field_configs"]["notes"]["enabled"] = False
        assert config == was
    assert at("emergency", "field_stop/notes") == at("emergency")
    unknown = effective(LADDER, BASELINE, "none", ["field_stop/nots"])
    assert unknown.no_ops == ("field_configs.nots",)


def test_a_level_holds_for_roasters_with_overrides_too() -> None:
    override = {"naivo": {"batch_size": 40, "field_configs": {"notes": {"enabled": True}}}}
    document = at("emergency", roasters=override)
    naivo = config_for(document, "naivo")
    assert naivo["batch_size"] == 20
    assert naivo["field_configs"]["notes"]["enabled"] is False
    assert naivo["rate_limit_per_minute"] == 30


@pytest.mark.parametrize(
    ("tuning", "key", "value"),
    [
        ("prompt_trim", "max_prompt_length", 500),
        ("smart_cache", "cache_ttl_seconds", 14400),
        ("batch_up", "batch_size", 20),
        ("batch_up", "enable_batch_optimization", True),
    ],
)
def test_a_tuning_for_people(tuning: str, key: str, value: Any) -> None:
    assert at("none", tuning)[key] == value


def test_the_field_tuning_is_about_its_field() -> None:
    fields = at("none", "field_threshold/notes")["field_configs"]
    assert fields["notes"]["confidence_threshold"] == Decimal("0.85")
    assert fields["tags"]["confidence_threshold"] == Decimal("0.80")


def test_the_order_of_tunings_does_not_matter() -> None:
    tunings = ["batch_up", "roaster/naivo", "field_threshold/notes", "smart_cache"]
    results = [at("emergency", *order) for order in permutations(tunings)]
    assert all(result == results[0] for result in results)


confidence = st.decimals(0, 1, places=2)
baselines = st.fixed_dictionaries(
    {
        "batch_size": st.integers(0, 50),
        "rate_limit_per_minute": st.integers(0, 500),
        "cache_ttl_seconds": st.integers(0, 100_000),
        "max_queue_size": st.integers(0, 5000),
        "enabled": st.booleans(),
        "field_configs": st.dictionaries(
            st.sampled_from(list(BASELINE["field_configs"])),
            st.fixed_dictionaries({"enabled": st.booleans(), "confidence_threshold": confidence}),
        ),
    }
)


@given(baselines, st.sampled_from(["accept_above", "ask_below"]))
def test_each_level_is_at_least_as_strict_as_the_one_below(
    changes: dict[str, Any], reading: str
) -> None:
    ladder = shipped_ladder(confidence_threshold=reading)
    baseline = merge(BASELINE, changes)
    documents = [effective(ladder, baseline, level).document for level in ladder.names]
    for below, above in pairwise(documents):
        assert set(above) == set(baseline)
        assert above["batch_size"] <= below["batch_size"]
        assert above["rate_limit_per_minute"] <= below["rate_limit_per_minute"]
        assert above["max_queue_size"] <= below["max_queue_size"]
        assert above["cache_ttl_seconds"] >= below["cache_ttl_seconds"]
        assert above["enabled"] <= below["enabled"]
        for name, field in above["field_configs"].items():
            lower = below["field_configs"][name]
            assert field["enabled"] <= lower["enabled"]
            moved = field["confidence_threshold"] - lower["confidence_threshold"]
            assert moved >= 0 if reading == "accept_above" else moved <= 0
            assert 0 <= field["confidence_threshold"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("by: 0.05", "step: 0.05"),
            r"yml: levels\[1\]\.raise\.field_configs\.\*\.confidence_threshold: .*`step`",
        ),
        (("by: 0.05", "by: -0.05"), "confidence_threshold: the factor or step must be above 0"),
        (("up_to: 0.90", "up_to: 9"), "between 0 and 1"),
        (("batch_size: 0.5", "batch_size: -1"), r"multiply\.batch_size: the factor or step"),
        (("batch_size: 0.5", "batch_size: .nan"), r"levels\[1\]\.multiply\.batch_size: .*finite"),
        (("max_queue_size: 100", "max_queue_size: [1]"), r"levels\[1\]\.at_most\.max_queue_size"),
        (("[notes, tags, sensory]", "notes"), r"levels\[2\]\.disable\.field_configs: .*array"),
        (("{prompt_optimization: true}", "{a..b: true}"), r"tunings\[3\]\.set\.a\.\.b: .*names"),
        (("# hook: {", "hook: {url: x, "), r"exactly one of argv and url.*\$\.hook"),
        (("level: emergency", "level: control"), "names of their own"),
        (("extra_keys: allow", "extra_keys: maybe"), r"'maybe'.*extra_keys"),
        (("automatic: true\n    scope: roaster", "automatic: true"), "go together"),
        (("    level: control", "    level: contrl"), "there is no level 'contrl'"),
        (("keep: lower", "keep: smaller"), "smaller"),
        (("levels:", "levles:"), "levles"),
        (("level: emergency", "steps: []\n    level: emergency"), r"levels\[2\]: .*`steps`"),
    ],
)
def test_a_mistake_in_the_ladder_is_named(change: tuple[str, str], message: str) -> None:
    text = LADDER_FILE.read_text()
    assert change[0] in text
    with pytest.raises(UserError, match=message):
        parse_ladder(text.replace(*change).encode(), LADDER_FILE)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("api_key: sk-1", "api_key"),
        ("llm: {DeepSeekApiKey: sk-1}", "llm.DeepSeekApiKey"),
        ("a: [{b: {password: 7}}]", "a[0].b.password"),
        ("db: 'postgres://user:pw@host/x'", "db"),
        ("connection-string: x", "connection-string"),
        ("auth_token: x", "auth_token"),
        ("client_secret: x", "client_secret"),
    ],
)
def test_a_baseline_with_a_secret_is_refused_by_path_not_by_value(document: str, path: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_baseline(document.encode(), Path("llm.yml"))
    assert f"llm.yml: {path} holds a secret" in str(refused.value)
    assert "sk-1" not in str(refused.value)


@pytest.mark.parametrize(
    "document",
    ["api_key: ''", "max_tokens: 5", "usd_per_token: 0.0001", "api_key_env: KEY", "token: null",
     "url: http://127.0.0.1/x"],
)  # fmt: skip
def test_what_only_looks_like_a_secret_is_none(document: str) -> None:
    assert parse_baseline(document.encode(), Path("llm.yml"))


@pytest.mark.parametrize("document", ["", "[1]", "just text", "a: [", "a: 1\na: 2"])
def test_a_baseline_that_is_no_config_is_refused(document: str) -> None:
    with pytest.raises(UserError, match=r"llm\.yml"):
        parse_baseline(document.encode(), Path("llm.yml"))

"""The ladder's language, for any ladder and baseline: a level only adds to those below it."""

from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alertmanager.receiver.ladder.effective import config_for, effective
from alertmanager.receiver.ladder.ladder import Ladder, Level, SetTo, Step, parse_ladder
from alertmanager.receiver.ladder.sides import safe
from common.yamlfile import dump

FILE = Path("ladder.yml")
Key = tuple[str, ...]

# A small world, so that operations meet: four keys, and two fields of two keys each.
KEYS = ("number", "switch", "text", "new")
PATHS = (
    *KEYS, "fields", "fields.a.n", "fields.b.n", "fields.*.n", "fields.a.on", "fields.*.on",
    "fields.a", "fields.*", "*.a.n", "*.*.on", "*", "absent.x", "roasters.r.number", "roasters.*.n",
)  # fmt: skip
numbers = st.integers(-3, 12) | st.decimals(-1, 12, places=2)
leaves = st.one_of(numbers, st.booleans(), st.none(), st.sampled_from(["a", "b"]), st.just([1]))
fields = st.fixed_dictionaries({}, optional={"n": leaves, "on": leaves, "enabled": st.booleans()})
worlds = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(KEYS, leaves),
        "fields": st.dictionaries(st.sampled_from("ab"), fields | leaves) | leaves,
    },
)
baselines = st.builds(
    lambda world, roasters: world | roasters,
    worlds,
    st.fixed_dictionaries({}, optional={"roasters": st.dictionaries(st.just("r"), worlds)}),
)
steps = st.decimals("0.01", 1, places=2)
READINGS = ("accept_above", "ask_below")
factors = st.decimals("0.1", 3, places=1)
sided = st.builds(
    lambda to, keep: {"to": to, "keep": keep}, numbers, st.sampled_from(["lower", "higher"])
)
constants = leaves | sided


def raised(by: Decimal, up_to: Decimal, reading: str | None) -> dict[str, Any]:
    return {"by": by, "up_to": up_to} | ({"reading": reading} if reading else {})


def by_path(values: st.SearchStrategy[Any], *more: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from((*PATHS, *more)), values, max_size=2)


def operations(*more: str) -> dict[str, st.SearchStrategy[Any]]:
    """more: paths that only this kind of entry has."""
    return {
        "set": by_path(constants, *more),
        "multiply": by_path(factors | st.builds(lambda by: {"by": by, "up_to": 9}, factors), *more),
        "at_most": by_path(numbers, *more),
        "at_least": by_path(numbers, *more),
        "raise": by_path(
            st.builds(raised, steps, steps, st.sampled_from([None, *READINGS])), *more
        ),
        "disable": st.dictionaries(st.just("fields"), st.lists(st.sampled_from("ab"), max_size=2)),
    }


def entries(kind: str, names: tuple[str, ...], *more: str, **fixed: Any) -> st.SearchStrategy[Any]:
    one = st.fixed_dictionaries({}, optional=operations(*more))
    return st.lists(one, min_size=kind == "level", max_size=len(names)).map(
        lambda many: [
            {kind: name} | fixed | entry for name, entry in zip(names, many, strict=False)
        ]
    )


documents = st.builds(
    lambda levels, plain, scoped, reading, extra: {
        "levels": levels,
        "tunings": [*plain, *scoped, {"tuning": "r", "scope": "roaster", "level": "l1"}],
        "confidence_threshold": reading,
        "extra_keys": extra,
    },
    entries("level", ("l1", "l2", "l3")),
    entries("tuning", ("t1", "t2")),
    entries("tuning", ("f",), "fields.{field}.n", "fields.{field}.on", scope="field"),
    st.sampled_from(READINGS),
    st.sampled_from(["allow", "drop"]),
)
ladders = documents.map(lambda document: parse_ladder(dump(document, FILE), FILE))
chosen = st.lists(st.sampled_from(["t1", "t2", "f/a", "f/b", "r/r", "r/s"]), unique=True)


def known(ladder: Ladder, entries: list[str]) -> list[str]:
    names = {tuning.tuning for tuning in ladder.tunings}
    return [entry for entry in entries if entry.partition("/")[0] in names]


def side_of(step: Step) -> str:
    """What the language says of an operation, written a second time."""
    name, value = step.written.partition(".")[0], step.value
    if name == "set":
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, SetTo):
            return str(value.keep)
        return "unsaid" if isinstance(value, int | Decimal) else "free"
    if name == "multiply":
        return "higher" if value.by > 1 else "lower"
    if name == "raise":
        return "lower" if value.reading == "ask_below" else "higher"
    return {"at_most": "lower", "at_least": "higher", "disable": "off"}[name]


def sides(level: Level, path: Key) -> set[str]:
    """All sides to which a level moves what stands at path."""
    found = set()
    for step in level.steps:
        if len(step.path) == len(path) and all(map(lambda p, k: p in ("*", k), step.path, path)):
            found.add(side_of(step))
    return found


def flat(value: Any, path: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key path with what stands there; a mapping counts as such."""
    if isinstance(value, dict):
        yield path, dict
        for key, item in value.items():
            yield from flat(item, (*path, key))
    else:
        yield path, value


def side_moved(old: Any, new: Any) -> set[str]:
    """The sides that a move can be explained by."""
    kinds = {type(old), type(new)}
    if bool not in kinds and kinds <= {int, Decimal}:
        return {"lower" if new < old else "higher", "unsaid"}
    if isinstance(new, bool):
        return {"on" if new else "off"}
    if isinstance(new, int | Decimal):
        return {"unsaid"} | ({"lower", "higher"} if old is None else set())
    return {"free"}


@given(ladders, baselines, chosen)
def test_a_level_moves_each_value_to_its_safe_side_or_not_at_all(
    ladder: Ladder, baseline: dict[str, Any], entries: list[str]
) -> None:
    ladder, _ = safe(ladder, FILE)
    tunings = known(ladder, entries)
    documents = [effective(ladder, baseline, level, tunings).document for level in ladder.names]
    for roaster in ("r", "s"):
        views = [dict(flat(config_for(document, roaster))) for document in documents]
        for level, (below, above) in zip(ladder.levels, pairwise(views), strict=True):
            assert set(below) <= set(above), "a key vanished"
            for path in above:
                added = path not in below
                assert not added or ladder.extra_keys == "allow"
                old, new = below.get(path), above[path]
                if (type(old), old) != (type(new), new) and old != new:
                    assert side_moved(old, new) & sides(level, path), (path, old, new)


@given(ladders, baselines)
def test_all_levels_move_a_value_to_one_side(ladder: Ladder, baseline: dict[str, Any]) -> None:
    ladder, _ = safe(ladder, FILE)
    top = effective(ladder, baseline, ladder.names[-1]).document
    for path, _ in flat(top):
        found = set().union(*(sides(level, path) for level in ladder.levels)) - {"unsaid"}
        assert len(found) <= 1, path


@given(ladders, baselines, chosen)
def test_a_value_that_was_moved_never_comes_back(
    ladder: Ladder, baseline: dict[str, Any], entries: list[str]
) -> None:
    ladder, _ = safe(ladder, FILE)
    tunings = known(ladder, entries)
    documents = [
        baseline,
        *(effective(ladder, baseline, n, tunings).document for n in ladder.names),
    ]
    for roaster in ("r", "s"):
        views = [dict(flat(config_for(document, roaster))) for document in documents]
        for path in views[-1]:
            if not any("unsaid" in sides(level, path) for level in ladder.levels):
                assert_one_way([view[path] for view in views if path in view])


def assert_one_way(values: list[Any]) -> None:
    """The baseline's value, with the tunings, then level by level."""
    moved = [new for old, new in pairwise(values) if isinstance(new, bool) and old is not new]
    assert len(moved) <= 1, f"a switch went back: {values}"
    numbers = [value for value in values[1:] if type(value) in (int, Decimal)]
    assert sorted(numbers) in (numbers, numbers[::-1]), f"a number went back: {values}"


@given(ladders, baselines, chosen)
def test_the_result_depends_on_nothing_but_what_is_in_force(
    ladder: Ladder, baseline: dict[str, Any], entries: list[str]
) -> None:
    before, tunings = deepcopy(baseline), known(ladder, entries)
    for level in ladder.names:
        first = effective(ladder, baseline, level, tunings)
        assert effective(ladder, deepcopy(before), level, [*tunings[::-1], *tunings]) == first
    assert baseline == before == effective(ladder, baseline, "none").document


# Every pair of operations on one key, from a level and the one above it.
NUMBERS = (
    "at_most: {x: 5}",
    "at_least: {x: 3}",
    "multiply: {x: 0.5}",
    "multiply: {x: 2}",
    "raise: {x: {by: 0.1, up_to: 0.9}}",
    "set: {x: {to: 4, keep: lower}}",
    "set: {x: {to: 4, keep: higher}}",
)
VALUES = [-2, 0, Decimal("0.3"), 1, 2, 4, 5, 8, 50]


@pytest.mark.parametrize("reading", ["accept_above", "ask_below"])
@pytest.mark.parametrize(("below", "above"), list(product(NUMBERS, NUMBERS)))
def test_numbers_are_refused_exactly_where_some_baseline_would_go_back(
    below: str, above: str, reading: str
) -> None:
    levels = f"levels: [{{level: a, {below}}}, {{level: b, {above}}}]"
    text = f"{{confidence_threshold: {reading}, {levels}}}"
    ladder = parse_ladder(text.encode(), FILE)
    moves = set()
    for value in VALUES:
        found = [effective(ladder, {"x": value}, level).document["x"] for level in ladder.names]
        moves |= {new > old for old, new in pairwise(found) if new != old}
    assert bool(safe(ladder, FILE)[1]) == (len(moves) == 2)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        # Two levels, a level and a tuning, wildcards and disable: a switch has one safe side.
        ("levels: [{level: a, set: {x: true}}, {level: b, set: {x: false}}]", 1),
        ("levels: [{level: a, set: {x: true}}, {level: b, set: {x: true}}]", 0),
        ("{levels: [{level: a, set: {x: true}}], tunings: [{tuning: t, set: {x: false}}]}", 1),
        ("levels: [{level: a, set: {'f.*.on': true}}, {level: b, set: {f.n.on: false}}]", 1),
        ("levels: [{level: a, set: {'f.*.on': true}}, {level: b, set: {f.n.off: false}}]", 0),
        ("levels: [{level: a, set: {f.n.enabled: true}}, {level: b, disable: {f: [n]}}]", 1),
        ("levels: [{level: a, set: {f.n.enabled: true}}, {level: b, disable: {f: [m]}}]", 0),
        ("levels: [{level: a, set: {f.n.enabled: false}}, {level: b, disable: {f: [n]}}]", 0),
        ("{levels: [{level: a, disable: {f: [n]}}],"
         " tunings: [{tuning: t, scope: field, set: {'f.{field}.enabled': true}}]}", 1),
        # A tuning's number may go the other way (batch_up), another level's may not.
        ("{levels: [{level: a, multiply: {x: 0.5}}], tunings: [{tuning: t, multiply: {x: 2}}]}", 0),
        ("levels: [{level: a, at_least: {x: 1}, at_most: {x: 9}}]", 1),
        # A text is free; but no key is a number here and a text or a switch there.
        ("levels: [{level: a, set: {x: cheap}}, {level: b, set: {x: [dear]}}]", 0),
        ("levels: [{level: a, set: {x: cheap}}, {level: b, at_most: {x: 5}}]", 1),
        ("levels: [{level: a, set: {x: {to: 1, keep: lower}}}, {level: b, set: {x: true}}]", 1),
        ("levels: [{level: a, set: {x: 1}}]", 1),
        ("levels: [{level: a, at_most: {roasters.r.x: 1}}]", 1),
    ],
)  # fmt: skip
def test_what_check_refuses(text: str, faults: int) -> None:
    ladder = parse_ladder(text.encode(), FILE)
    found = safe(ladder, FILE)[1]
    assert len(found) == faults, found
    assert all(fault.startswith("ladder.yml: ") for fault in found)


def test_a_field_that_is_disabled_anywhere_is_switched_on_nowhere() -> None:
    text = b"levels: [{level: a, disable: {f: [n]}}, {level: b, set: {f.n.enabled: true}}]"
    ladder, faults = safe(parse_ladder(text, FILE), FILE)
    assert "level b: set.f.n.enabled switches it on, but level a: disable.f.n" in faults[0]
    for level in ladder.names:
        assert not effective(ladder, {"f": {"n": {"enabled": False}}}, level).document["f"]["n"][
            "enabled"
        ]


def test_of_two_levels_that_contradict_each_other_the_higher_counts() -> None:
    text = b"levels: [{level: a, set: {x: true, y: true}}, {level: b, set: {x: false}}]"
    ladder, _ = safe(parse_ladder(text, FILE), FILE)
    found = [effective(ladder, {"x": True, "y": False}, level).document for level in ladder.names]
    assert found == [{"x": True, "y": False}, {"x": True, "y": True}, {"x": False, "y": True}]

"""degradation.yml: its schema and what must hold between its parts."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from common.errors import UserError
from common.yamlfile import decode, parse_document

MAX_NODES = 20_000  # keys and values
Document = dict[str, Any]
NONE = "none"  # the level below the first: the baseline as it is
Reading = Literal["accept_above", "ask_below"]  # of a confidence threshold: docs/degradation.md
_QUESTION = (
    "degradation.yml does not say what a confidence threshold of 0.80 means to your scraper: if it "
    "asks the LLM where its own parser is sure to 0.72, write `confidence_threshold: ask_below`, "
    "or every raise makes more calls; if it calls only where it expects an answer above 0.80, "
    "write `confidence_threshold: accept_above`"
)
Seconds = Annotated[float, Meta(gt=0, le=600)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown key is an error that names it."""


class SetTo(_Strict, frozen=True):
    """A constant that spares a value already on the safe side of it."""

    to: Decimal
    keep: Literal["lower", "higher"]


class Multiply(_Strict, frozen=True):
    """A factor; the product is rounded down, at least 1, and never beyond up_to."""

    by: Decimal
    up_to: Decimal | None = None


class Raise(_Strict, frozen=True):
    """A step up to a cap, for confidence thresholds (0 to 1); down to 1 - cap with ask_below."""

    by: Decimal
    up_to: Decimal
    reading: Reading | None = None  # None, which nobody has chosen: accept_above, the runbook's


class Step(_Strict, frozen=True):
    """One operation on one key."""

    written: str  # as the file has it, such as "set.enabled"
    path: tuple[str, ...]  # * is every key
    value: Any  # SetTo, Multiply, Raise or a constant
    absent: bool = False  # whether the last key may be missing

    def about(self, field: str) -> "Step":
        """The step with {field} replaced."""
        path = tuple(part.replace("{field}", field) for part in self.path)
        return replace(self, written=self.written.replace("{field}", field), path=path)


class Level(_Strict, frozen=True, kw_only=True):
    """One rung; it includes those before it."""

    level: Name
    steps: list[Step]

    def __str__(self) -> str:
        return f"level {self.level}"


class Tuning(_Strict, frozen=True, kw_only=True):
    """A change of its own. scope: what its instances are about; level: for scope roaster."""

    tuning: Name
    steps: list[Step]
    automatic: bool = False
    scope: Literal["roaster", "field"] | None = None
    level: str | None = None

    def __str__(self) -> str:
        return f"tuning {self.tuning}"


class Action(_Strict, frozen=True):
    """A program (no shell) or an HTTP endpoint."""

    argv: list[str] | None = None
    url: str | None = None
    timeout_seconds: Seconds = 10.0

    def __post_init__(self) -> None:
        if bool(self.argv) == bool(self.url):
            raise ValueError("exactly one of argv and url is needed")


class Ladder(_Strict, frozen=True, kw_only=True):
    """The whole of degradation.yml."""

    levels: Annotated[list[Level], Meta(min_length=1)]
    tunings: list[Tuning] = field(default_factory=list)
    confidence_threshold: Reading | None = None  # of each raise that says none itself
    extra_keys: Literal["allow", "drop"] = "allow"
    hook: Action | None = None
    verify: Action | None = None

    def __post_init__(self) -> None:
        names = [level.level for level in self.levels] + [t.tuning for t in self.tunings]
        if len(names) != len(set(names)) or NONE in names:
            raise UserError(f"levels and tunings need names of their own, none of them {NONE!r}")
        for tuning in self.tunings:
            if (tuning.scope == "roaster") != (tuning.level is not None):
                raise UserError(f"tuning {tuning.tuning}: scope roaster and level go together")
            self.rank(tuning.level or NONE)

    @property
    def names(self) -> list[str]:
        """none and the levels, the mildest first."""
        return [NONE, *(level.level for level in self.levels)]

    @property
    def automatic(self) -> list[str]:
        """What alerts ask for: every level, and the automatic tunings."""
        return [*self.names[1:], *(one.tuning for one in self.tunings if one.automatic)]

    @property
    def question(self) -> str:
        """A sentence, as long as a threshold is moved whose reading nobody has said; else ""."""
        entries: list[Level | Tuning] = [*self.levels, *self.tunings]
        values = [step.value for entry in entries for step in entry.steps]
        unsaid = any(isinstance(value, Raise) and not value.reading for value in values)
        return _QUESTION if unsaid else ""

    def rank(self, level: str) -> int:
        """0 for none, 1 for the mildest level. Raises UserError for a level that does not exist."""
        if level not in self.names:
            raise UserError(f"there is no level {level!r}; the ladder has {', '.join(self.names)}")
        return self.names.index(level)

    def known_tunings(self, entries: list[str]) -> tuple[str, ...]:
        """Those entries whose tuning the ladder has, each once, in order."""
        names = {tuning.tuning for tuning in self.tunings}
        return tuple(sorted({entry for entry in entries if name_of(entry) in names}))

    def tuning(self, name: str) -> Tuning:
        """A tuning by its name. Raises UserError for one that does not exist."""
        known = {tuning.tuning: tuning for tuning in self.tunings}
        if name not in known:
            raise UserError(f"there is no tuning {name!r}; the ladder has {', '.join(known)}")
        return known[name]


def name_of(entry: str) -> str:
    """The level's or the tuning's name, without the scope."""
    return entry.partition("/")[0]


def parse_ladder(raw: bytes, path: Path) -> Ladder:
    """degradation.yml from its bytes. Raises UserError naming the file and the key path."""
    document = parse_document(raw, path, MAX_NODES) or {}
    said = document.get("confidence_threshold") if isinstance(document, dict) else None
    reading = _as(Reading | None, said, f"{path}: confidence_threshold")
    for part in ("levels", "tunings"):
        entries = document.get(part) if isinstance(document, dict) else None
        if isinstance(entries, list):
            document[part] = [
                _with_steps(entry, f"{path}: {part}[{index}]", reading)
                for index, entry in enumerate(entries)
            ]
    return decode(document, Ladder, path)


# What stands behind a key of each operation, in the order in which they are applied; set takes any
# constant, or a mapping with `to`.
_KINDS: dict[str, Any] = {
    "set": Any,
    "multiply": Decimal | Multiply,
    "at_most": Decimal,
    "at_least": Decimal,
    "raise": Raise,
    "disable": list[str],
}


def _with_steps(entry: Any, where: str, reading: Reading | None) -> Any:
    """A level or a tuning with steps for its operations. Raises UserError that begins with where.

    msgspec names no keys of mappings: its errors would say […] for them.
    """
    if not isinstance(entry, dict):
        return entry
    if "steps" in entry:
        raise UserError(f"{where}: Object contains unknown field `steps`")
    steps = []
    for name in _KINDS:
        for key, given in _as(dict[Any, Any], entry.get(name, {}), f"{where}.{name}").items():
            place = f"{where}.{name}.{key}"
            value = _value(name, given, place, reading)
            if not isinstance(key, str) or not all(key.split(".")):
                raise UserError(f"{place}: the key must be names with dots between them")
            path = tuple(key.split("."))
            if name == "disable":
                for off in value:
                    inner = (*path, off, "enabled")
                    steps.append(Step(f"{name}.{key}.{off}", inner, False, absent=True))
            else:
                steps.append(Step(f"{name}.{key}", path, value, absent=name == "set"))
    return {key: value for key, value in entry.items() if key not in _KINDS} | {"steps": steps}


def _value(name: str, given: Any, place: str, reading: Reading | None) -> Any:
    """A step's value. reading: of a threshold that says none itself. Raises UserError."""
    kind = SetTo if name == "set" and isinstance(given, dict) else _KINDS[name]
    value = _as(kind, given, place)
    if name in ("at_most", "at_least"):
        value = SetTo(value, "lower" if name == "at_most" else "higher")
    elif name == "multiply" and isinstance(value, Decimal):
        value = Multiply(value)
    numbers = msgspec.structs.astuple(value) if isinstance(value, Struct) else (value,)
    if not all(number.is_finite() for number in numbers if isinstance(number, Decimal)):
        raise UserError(f"{place}: it must be a finite number")
    if isinstance(value, Raise):
        value = replace(value, reading=value.reading or reading)
    if isinstance(value, Multiply | Raise) and value.by <= 0:
        raise UserError(f"{place}: the factor or step must be above 0")
    if isinstance(value, Raise) and not (value.by <= 1 and 0 <= value.up_to <= 1):
        raise UserError(f"{place}: a confidence threshold is between 0 and 1")
    return value


def _as(kind: Any, value: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {error}") from error

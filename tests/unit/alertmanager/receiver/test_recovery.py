"""Lost and damaged files: no damage lifts a protection."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alertmanager.receiver.audit import Audit
from alertmanager.receiver.evidence.observations import ExporterAnswer, NoAnswer, Observations
from alertmanager.receiver.store import remembered
from common.clock import iso8601
from tests.support.budget_statuses import figures
from tests.support.ladders import BASELINE_FILE
from tests.support.odd_files import ODD, put
from tests.support.receivers import ADMIN, NOW, Receiver, alert


def damage_none(_: Path) -> None: ...


def lose_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def corrupt_state(folder: Path) -> None:
    (folder / "state.json").write_bytes(b'{"level": "eme')


def foreign_level(folder: Path) -> None:
    (folder / "state.json").write_text('{"override": {"mode": "pin", "level": "odd", "reason": "r",'
                                       ' "author": "a", "at": 1}}')  # fmt: skip


def lose_state_and_audit(folder: Path) -> None:
    lose_state(folder)
    (folder / "state.audit.jsonl").unlink()


def lose_state_and_effective(folder: Path) -> None:
    lose_state(folder)
    next(folder.glob("effective.*")).unlink()


def lose_state_and_edit_effective(folder: Path) -> None:
    lose_state(folder)
    next(folder.glob("effective.*")).write_text("enabled: true\n")


def lose_everything_but_a_foreign_effective(folder: Path) -> None:
    lose_state_and_audit(folder)
    next(folder.glob("effective.*")).write_text('{"enabled": true}')


@pytest.mark.parametrize("suffix", [".yml", ".json"])
@pytest.mark.parametrize(
    ("damage", "level", "tunings"),
    [
        (damage_none, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state, "emergency", ["batch_up", "roaster/naivo"]),
        (corrupt_state, "emergency", ["batch_up", "roaster/naivo"]),
        (foreign_level, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state_and_effective, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state_and_edit_effective, "fallback", ["batch_up", "roaster/naivo"]),
        (lose_everything_but_a_foreign_effective, "fallback", []),
    ],
)
def test_no_damage_lifts_a_protection(
    tmp_path: Path,
    suffix: str,
    damage: Callable[[Path], None],
    level: str,
    tunings: list[str],
) -> None:
    baseline = tmp_path / f"llm{suffix}"
    document = yaml.safe_load(BASELINE_FILE.read_text())
    baseline.write_text(json.dumps(document) if suffix == ".json" else yaml.dump(document))
    first = Receiver(tmp_path, baseline)
    first.webhook(alert("emergency"), alert(tuning="roaster", roaster="naivo"))
    word = {"mode": "tune", "tuning": "batch_up", "reason": "r", "author": "ann"}
    assert first.post("/api/v1/override", word, ADMIN).status_code == 200
    first.close()
    damage(tmp_path)
    again = Receiver(tmp_path, baseline)
    assert (again.level(), again.http.get("/state").json()["tunings"]) == (level, tunings)
    assert again.http.get("/config").json()["rate_limit_per_minute"] == 30
    again.close()


def test_without_state_and_trail_the_effective_file_still_tells_the_level(tmp_path: Path) -> None:
    first = Receiver(tmp_path)
    first.webhook(alert("control"), alert(tuning="roaster", roaster="naivo"))
    first.close()
    lose_state_and_audit(tmp_path)
    again = Receiver(tmp_path)
    assert again.level() == "control"
    again.close()


def test_the_first_start_is_at_none_also_beside_a_copy_of_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "effective.yml").write_text("# mine\n" + BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path)
    assert receiver.level() == "none"
    receiver.close()


@pytest.mark.parametrize("state", [b"", b"{", b'{"version": 99}', b'{"level": "meltdown"}', None])
def test_a_lost_or_corrupt_state_keeps_what_the_effective_file_shows(
    tmp_path: Path, state: bytes | None
) -> None:
    Receiver(tmp_path).webhook(alert("emergency"))
    if state is None:
        (tmp_path / "state.json").unlink()
    else:
        (tmp_path / "state.json").write_bytes(state)
    assert Receiver(tmp_path).level() == "emergency"


def test_a_corrupt_state_without_a_telling_file_protects_fully(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"{")
    (tmp_path / "effective.yml").write_text("something: else\n")
    assert Receiver(tmp_path).level() == "fallback"


# Damage to a state file's bytes: at a small baseline, so that a thousand loads take seconds.

SMALL_BASELINE = '{"enabled": true, "batch_size": 8, "rate_limit_per_minute": 60}'


def test_a_lost_state_loses_no_ledger_of_the_day(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    seen = [ExporterAnswer(one, NOW - 60, figures("1"), ledger=one) for one in ("a1", "b2")]
    receiver.observe(Observations((), (), seen))
    receiver.webhook(alert("control"))
    receiver.close()
    for damage in (lose_state, corrupt_state):
        damage(tmp_path)
        receiver = Receiver(tmp_path)
        receiver.observe(Observations((), (), seen[:1]))
        assert receiver.http.get("/state").json()["ledgers"] == {"a1": "live", "b2": "away"}
        receiver.close()


def say(receiver: Receiver, **what: Any) -> None:
    request = {"reason": "r", "author": "ann", **what}
    assert receiver.post("/api/v1/override", request, ADMIN).status_code == 200


def small(folder: Path) -> Receiver:
    baseline = folder / "llm.json"
    baseline.write_text(SMALL_BASELINE)
    return Receiver(folder, baseline)


def unsealed(raw: bytes) -> bytes:
    """As the version before checksums wrote it: what is as by default is left out."""
    document = {key: value for key, value in json.loads(raw).items() if value not in ("", [], {})}
    del document["checksum"], document["version"]
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def with_keys_changed(document: Any, root: Any) -> Iterator[Any]:
    """The root, each time with one key removed or another value, and put back."""
    for key, value in list(document.items()) if isinstance(document, dict) else ():
        del document[key]
        yield root
        for other in (None, 0, -1, 1e300, True, "none", "", [], {}, {"none": 1}, [None]):
            document[key] = other
            yield root
        document[key] = value
        yield from with_keys_changed(value, root)


def corruptions(raw: bytes) -> Iterator[bytes]:
    for place in range(len(raw)):
        yield raw[:place]
        yield raw[:place] + bytes([raw[place] ^ (0x20 >> place % 6)]) + raw[place + 1 :]
    document = json.loads(raw)
    yield from (json.dumps(one).encode() for one in with_keys_changed(document, document))
    yield from (b"", b"{}", b"[]", b"null", bytes(len(raw)), raw + raw, raw + b"\0", b"[" * 100_000)
    swapped = dict(zip(document, reversed(document.values()), strict=True))
    yield from (json.dumps(swapped).encode(), raw.replace(b"emergency", b"conserve"))


@pytest.mark.parametrize("as_written_by", [bytes, unsealed], ids=["now", "before checksums"])
def test_no_corruption_of_the_state_lowers_anything_or_loses_an_override_unnamed(
    tmp_path: Path, as_written_by: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    receiver = small(tmp_path)
    receiver.webhook(alert("emergency"), alert(tuning="roaster", roaster="naivo"))
    say(receiver, mode="degrade", level="control")
    receiver.close()
    if as_written_by is unsealed:
        receiver.audit_file.write_text(receiver.audit_file.read_text().replace('"asked"', '"_"'))
    path, audit = tmp_path / "state.json", Audit(tmp_path / "state.audit.jsonl")
    whole, count = as_written_by(path.read_bytes()), 0
    for raw in corruptions(whole):
        count += 1
        path.write_bytes(raw)
        state = remembered(receiver.configs, path, audit, shadow=False, now=NOW)
        shown = state.in_force(receiver.configs.ladder, NOW)
        assert receiver.configs.ladder.rank(shown.level) >= 3, raw
        assert "roaster/naivo" in shown.tunings, raw
        assert (
            (state.override and state.override.level == "control")
            or state.lost
            or (as_written_by is unsealed and not state.recovered)
        ), raw
    assert count > 1233
    path.write_bytes(whole)
    state = remembered(receiver.configs, path, audit, shadow=False, now=NOW)
    assert (state.recovered, state.lost, state.level) == ("", "", "emergency")


@pytest.mark.parametrize("raw", [b'{"level": "control"}', b'{"version": 1, "level": "none"}'])
def test_a_state_of_before_checksums_counts_once_and_is_then_sealed(
    tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "state.json").write_bytes(raw)
    first = small(tmp_path)
    assert first.level() == json.loads(raw)["level"]
    assert first.http.get("/health").status_code == 200
    first.close()
    sealed = json.loads((tmp_path / "state.json").read_bytes())
    del sealed["checksum"]
    (tmp_path / "state.json").write_text(json.dumps(sealed))
    (tmp_path / "state.audit.jsonl").unlink()
    again = small(tmp_path)
    assert again.level() == first.level()  # as the effective file shows
    assert "checksum" in again.http.get("/health").json()["problems"]["state"]
    again.close()


def test_when_neither_trail_nor_effective_file_tells_the_highest_level_is_the_safe_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "state.json").write_bytes(b"{}")
    receiver = small(tmp_path)
    assert receiver.level() == "fallback"
    receiver.close()


def test_a_torn_last_line_of_the_trail_is_no_proof_of_less(tmp_path: Path) -> None:
    first = small(tmp_path)
    for level in ("control", "fallback"):
        first.webhook(alert(level))
    first.close()
    lose_state(tmp_path)
    first.audit_file.write_bytes(first.audit_file.read_bytes()[:-9])
    first.file.unlink()
    again = small(tmp_path)
    assert again.level() == "fallback"
    again.close()


def test_a_pin_survives_and_so_does_what_it_hides(tmp_path: Path) -> None:
    first = small(tmp_path)
    say(first, mode="pin", level="none", until=iso8601(NOW + 60))
    first.webhook(alert("fallback"))
    first.close()
    corrupt_state(tmp_path)
    again = small(tmp_path)
    assert again.level() == "none"
    assert again.http.get("/state").json()["override"]["author"] == "ann"
    again.clock.advance(61)
    again.observe(Observations(prometheuses=(NoAnswer("p", "away"),)))
    assert again.level() == "fallback"
    again.close()


def test_a_pin_that_the_effective_file_contradicts_is_named_lost_until_a_person_speaks(
    tmp_path: Path,
) -> None:
    first = small(tmp_path)
    say(first, mode="pin", level="none", until=iso8601(NOW + 60))
    trail = first.audit_file.read_bytes()
    say(first, mode="degrade", level="control")
    first.close()
    first.audit_file.write_bytes(trail)  # the disk was full
    corrupt_state(tmp_path)
    again = small(tmp_path)
    assert again.level() == "control"
    lost = "ann's pin to none is lost: more than that was in force"
    assert again.audit()[-1]["why"].endswith(lost)
    again.observe(Observations())
    health = again.http.get("/health").json()
    assert health == {"status": "warning", "problems": {"override": lost}}
    say(again, mode="degrade", level="none")
    assert again.http.get("/health").json() == {"status": "ok"}
    again.close()


def test_health_says_that_the_state_is_lost_also_after_a_restart_until_evidence_speaks(
    tmp_path: Path,
) -> None:
    first = small(tmp_path)
    first.webhook(alert("control"))
    first.close()
    corrupt_state(tmp_path)
    small(tmp_path).close()
    again = small(tmp_path)
    silent = Observations(prometheuses=(NoAnswer("p", "away"),))
    again.observe(silent)
    health = again.http.get("/health")
    assert health.status_code == 503
    assert "is corrupt" in health.json()["problems"]["state"]
    assert "going on with level control" in again.http.get("/state").json()["problems"]["state"]
    again.observe(Observations())
    assert again.http.get("/health").json() == {"status": "ok"}
    assert again.level() == "control"
    again.close()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["state.json", "state.audit.jsonl", "effective.json"])
def test_an_odd_thing_in_a_files_place_at_a_start_hangs_and_lowers_nothing(
    tmp_path: Path, name: str, odd: Callable[[Path], None]
) -> None:
    first = small(tmp_path)
    first.webhook(alert("control"))
    first.close()
    put(odd, tmp_path / name)
    again = small(tmp_path)
    assert again.level() == "control"
    again.webhook(alert("fallback"))
    assert again.level() == "fallback"
    again.close()

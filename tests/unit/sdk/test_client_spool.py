"""The spool under fire: many writers, kill -9, fork, torn writes, a reader that takes it away."""

import ctypes
import fcntl
import json
import os
import resource
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk import client as module
from sdk.client import SLOT, Client
from tests.support.examples import examples
from tests.support.planted import PLANTS, untouched, victim
from tests.support.spool_writers import (
    StartWriter,
    acknowledged,
    check,
    kill_writers,
    spool_writers,
)
from tests.support.spools import Reader, answer
from tests.support.waiting import until


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def writers() -> Iterator[StartWriter]:
    with spool_writers() as start:
        yield start


def test_many_processes_that_start_at_once_write_one_header(
    spool: Path, writers: StartWriter
) -> None:
    processes = [writers(spool, 200, f"w{number}") for number in range(8)]
    assert sum(acknowledged(process)["+"] for process in processes) == 1600
    reader = Reader(spool)
    check(reader, 1600)
    assert reader.headers == 1
    assert reader.bad_lines == []
    assert not spool.exists()
    assert Path(f"{spool}.fold").exists() is False


@pytest.mark.parametrize("max_bytes", [1 << 30, 20_000])
def test_every_call_counts_once_while_the_reader_retires_and_takes_folds(
    spool: Path, writers: StartWriter, max_bytes: int
) -> None:
    processes = [writers(spool, 600, f"w{number}", max_bytes) for number in range(4)]
    reader = Reader(spool)
    until(
        lambda: reader.read() and all(process.poll() is not None for process in processes),
        every=0.002,
    )
    assert sum(acknowledged(process)["+"] for process in processes) == 2400
    check(reader, 2400)
    assert reader.retired >= 1
    assert reader.bad_lines == []


def test_kill_9_loses_no_acknowledged_call_and_doubles_none(spool: Path) -> None:
    kill_writers(spool, rounds=10)


def test_threads_share_a_client(spool: Path) -> None:
    client = Client(spool)

    def work(name: int) -> None:
        for number in range(200):
            assert client.record("r", "f", answer(id=f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    check(Reader(spool), 1600)


def test_a_fork_while_another_thread_records_harms_neither(spool: Path) -> None:
    client = Client(spool)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            client.record("r", "f", outcome="error")

    thread = threading.Thread(target=work)
    thread.start()
    children = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a lock that stays held would hang it
            os._exit(0 if all(client.record("r", "f", outcome="error") for _ in range(20)) else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    stop.set()
    thread.join()
    client.close()
    reader = Reader(spool).read()  # which refuses an id that came twice
    assert len(reader.events) > 400
    assert reader.bad_lines == []


def test_a_signal_handler_may_record_in_the_middle_of_a_record(spool: Path) -> None:
    client = Client(spool)
    from_handler = []
    previous = signal.signal(
        signal.SIGALRM, lambda *_: from_handler.append(client.record("r", "f", answer()))
    )
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        calls = 0
        while len(from_handler) < 100:
            assert client.record("r", "f", answer())
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    client.close()
    check(Reader(spool), calls + len(from_handler))


def test_a_retired_file_is_left_for_a_new_one(spool: Path) -> None:
    client = Client(spool)
    reader = Reader(spool)
    for number in range(1, 4):
        client.record("r", "f", answer())
        check(reader, number)
        assert not spool.exists()
    assert reader.headers == reader.retired == 3


def test_a_file_moved_away_by_hand_is_left_within_a_second(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(spool)
    client.record("r", "f", answer())
    spool.rename(spool.with_name("kept"))
    client._spool._file._next_look = 0.0  # a second later
    client.record("r", "f", answer())
    client.close()
    check(Reader(spool), 1)


@pytest.mark.parametrize("reused", [False, True])
def test_a_daemon_that_closes_all_descriptors_harms_nobodys_file(
    spool: Path, tmp_path: Path, reused: bool
) -> None:
    client = Client(spool, max_bytes=700)  # two lines, then sums
    for _ in range(4):
        client.record("r", "f", answer())
    numbers = [client._spool._file.fd, client._spool._fold.fd]
    for number in numbers:
        os.close(number)
    others = [os.open(tmp_path / f"{n}", os.O_RDWR | os.O_CREAT) for n in numbers * reused]
    assert others == numbers * reused
    for _ in range(4):
        assert client.record("r", "f", answer())
    client.close()
    for other in others:
        assert os.fstat(other).st_size == 0
        os.close(other)
    check(Reader(spool), 8)


def test_a_relative_spool_stays_where_it_was(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spool.parent)
    client = Client(spool.name)
    monkeypatch.chdir("/")
    client.record("r", "f", answer())
    client.close()
    check(Reader(spool), 1)


def test_its_folder_may_appear_and_vanish(spool: Path) -> None:
    client = Client(spool.parent / "new" / "spool")
    assert client.record("r", "f", answer())
    Reader(spool.parent / "new" / "spool").read()
    (spool.parent / "new").rmdir()
    assert client.record("r", "f", answer())
    client.close()
    check(Reader(spool.parent / "new" / "spool"), 1)


# --- torn writes ---


@given(st.lists(st.binary(min_size=1, max_size=9).map(bytes.hex), min_size=1), st.data())
def test_wherever_a_write_is_cut_each_line_is_in_the_file_or_in_the_rest(
    lines: list[str], data: st.DataObject
) -> None:
    whole = "".join(f"\n<{line}>\n" for line in lines).encode()
    cut = data.draw(st.integers(0, len(whole)))
    written, rest = whole[:cut], module._unwritten(whole, cut)
    in_file = (written + b"\n<next>\n").split(b"\n")  # what comes next begins with a newline
    complete = [line for line in in_file if line.endswith(b">")]
    assert [*complete[:-1], *filter(None, rest.split(b"\n"))] == [
        f"<{line}>".encode() for line in lines
    ]


@pytest.mark.parametrize("file_size", [100, 3000, 13_001])
def test_a_write_cut_short_goes_to_the_fold_and_the_piece_rejects_only_itself(
    spool: Path, writers: StartWriter, file_size: int
) -> None:
    limited = writers(spool, 60, "limited", file_size=file_size)
    said = acknowledged(limited)
    assert limited.returncode == 0, limited.stderr.read() if limited.stderr else ""
    if file_size > 6 * SLOT:
        assert said["+"] == 60, "the sums of three roasters in two minutes fit into the fold"
    free = acknowledged(writers(spool, 20, "free"))
    assert free["+"] == 20
    reader = Reader(spool)
    check(reader, said["+"] + 20)
    assert len(reader.bad_lines) <= 1
    assert reader.headers == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 KiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=64k"):
        pytest.skip(f"mounting needs privileges: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount2(str(folder).encode(), 2)


def test_a_full_disk_loses_only_what_record_said_it_lost_and_recovers(small_disk: Path) -> None:
    client = Client(small_disk / "spool")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(40 << 10))
    # One label after the other, so that the fold grows too, until nothing fits.
    results = [client.record(f"r{number}", "f", answer()) for number in range(200)]
    assert results.count(False) == client.lost() > 0
    filler.unlink()
    assert client.record("r", "f", answer())
    client.close()
    reader = Reader(small_disk / "spool")
    check(reader, results.count(True) + 1)
    assert len(reader.bad_lines) <= 2


def test_where_nothing_can_be_written_record_says_so_and_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = Client(tmp_path / "file" / "spool")
    assert [client.record("r", "f", answer()) for _ in range(3)] == [False] * 3
    assert client.lost() == 3


def test_a_header_cut_short_leaves_no_half_of_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
    client = Client(spool)
    assert client.record("r", "f", answer())
    assert spool.read_bytes() == b""
    monkeypatch.undo()
    assert client.record("r", "f", answer())
    client.close()
    reader = Reader(spool)
    check(reader, 2)
    assert (reader.headers, reader.bad_lines) == (1, [])


# --- the fold ---


def test_a_reader_that_hangs_with_the_lock_sends_calls_to_the_fold_and_waits_once(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(spool)
    client.record("r", "f", answer())
    naps: list[float] = []
    monkeypatch.setattr(module.time, "sleep", lambda seconds: naps.append(seconds))
    with open(spool, "rb") as hanging:
        fcntl.flock(hanging, fcntl.LOCK_EX)
        for _ in range(10):
            assert client.record("r", "f", answer())
        client._spool._next_wait = float("inf")
        waited = len(naps)
        assert client.record("r", "f", answer())
        assert len(naps) == waited, "impatient for a while after a wait in vain"
    assert client.record("r", "f", answer())
    reader = Reader(spool)
    assert len([line for line in spool.read_text().splitlines() if "chatcmpl" in line]) == 2
    check(reader, 13)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["blue-tokai", "naivo", "ünï" * 40, "\U0001f600" * 120]),
            st.sampled_from(["notes", "tags", "\U0001f600" * 120]),
            st.sampled_from(["success", "error", "rate_limited", "cached"]),
            st.integers(1, 10_000_001),
            st.integers(0, 5000),
            st.integers(0, 7200),
        ),
        max_size=30,
    ),
    st.integers(0, 3000),
    st.sampled_from([0, 2, 4096]),
)
@settings(max_examples=examples(60))
def test_sums_are_exact_whatever_folds_when(
    tmp_path_factory: pytest.TempPathFactory, calls: list, max_bytes: int, fine_slots: int
) -> None:
    spool = tmp_path_factory.mktemp("sums") / "spool"
    expected: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FINE_SLOTS", fine_slots)
        clients = [Client(spool, max_bytes=max_bytes) for _ in range(2)]
        reader = Reader(spool)
        for number, (roaster, field, outcome, prompt, completion, second) in enumerate(calls):
            response = answer(prompt, completion, prompt // 3)
            more = {"outcome": outcome, "model": "\U0001f600" * 120, "batch_items": 2}
            at = 1_800_000_000.0 + second
            assert clients[number % 2].record(roaster, field, response, at=at, **more)
            billed = outcome != "cached"
            expected += Counter(
                calls=1,
                prompt_tokens=prompt * billed,
                completion_tokens=completion * billed,
                prompt_cache_hit_tokens=prompt // 3 * billed,
                batch_items=2,
            )
            if number % 7 == 6:
                reader.read()
        fold = Path(f"{spool}.fold")
        if fold.exists():
            slots = fold.read_bytes()
            assert len(slots) % SLOT == 0
            assert all(slots[at] == ord("\n") for at in range(SLOT - 1, len(slots), SLOT))
        for client in clients:
            client.close()
        assert +reader.read().totals() == +expected
        assert reader.bad_lines == []


def folded(spool: Path) -> list[dict]:
    slots = Path(f"{spool}.fold").read_bytes()
    return [json.loads(slots[at : at + SLOT]) for at in range(0, len(slots), SLOT)]


def test_one_sum_a_minute_and_in_a_large_fold_one_a_quarter_of_an_hour(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FINE_SLOTS", 2)
    client = Client(spool, max_bytes=0)
    for minute in (0, 0, 1, 2, 3, 14, 15):
        client.record("r", "f", answer(), at=1_800_000_000.0 + 60 * minute)
    client.close()
    assert [(event["time"][11:16], event["count"]) for event in folded(spool)] == [
        ("08:00", 2),
        ("08:01", 1),
        ("08:02", 3),
        ("08:15", 1),
    ]


def test_a_sum_holds_no_more_calls_than_the_exporter_takes(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 3)
    for _ in range(2):  # the second one learns from the file
        client = Client(spool, max_bytes=0)
        for _ in range(5):
            client.record("r", "f", answer(), at=1_800_000_000.0)
        client.close()
    assert [event["count"] for event in folded(spool)] == [3, 3, 3, 1]
    assert len({event["id"] for event in folded(spool)}) == 4


def test_a_call_that_the_exporter_will_refuse_spoils_no_sum(spool: Path) -> None:
    client = Client(spool, max_bytes=0)
    for prompt, cached in ((10, 11), (100, 0), (20_000_000, 0), (10, 11), (100, 0)):
        client.record("r", "f", answer(prompt, 1, cached), at=1_800_000_000.0)
    client.close()
    assert [(event["usage"].get("prompt_tokens"), event["count"]) for event in folded(spool)] == [
        (None, 1),  # it says what is wrong instead
        (200, 2),
        (20_000_000, 1),
        (None, 1),
    ]


def test_a_damaged_fold_is_written_around(spool: Path) -> None:
    Path(f"{spool}.fold").write_bytes(b"\0" * SLOT + b"torn")
    client = Client(spool, max_bytes=0)
    for _ in range(3):
        assert client.record("r", "f", answer())
    client.close()
    slots = Path(f"{spool}.fold").read_bytes()
    assert len(slots) in (2 * SLOT, 3 * SLOT)  # a minute may have passed
    found = [json.loads(slots[at : at + SLOT]) for at in range(SLOT, len(slots), SLOT)]
    assert sum(event["count"] for event in found) == 3


def test_files_are_the_owners_and_the_groups(spool: Path) -> None:
    previous = os.umask(0)
    try:
        client = Client(spool, max_bytes=300)
        for _ in range(5):
            client.record("r", "f", answer())
    finally:
        os.umask(previous)
    assert [path.stat().st_mode & 0o777 for path in (spool, Path(f"{spool}.fold"))] == [0o640] * 2


def test_descriptors_do_not_pile_up(spool: Path) -> None:
    client = Client(spool, max_bytes=2000)
    reader = Reader(spool)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        for _ in range(12):
            client.record("r", "f", answer())
        reader.read()
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before


@pytest.mark.parametrize("plant", PLANTS)
def test_what_others_plant_at_the_spool_or_its_fold_is_left_alone(
    tmp_path: Path, plant: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = victim(tmp_path)
    spool = tmp_path / "shared" / "spool"
    spool.parent.mkdir()
    PLANTS[plant](spool, file)
    client = Client(spool)
    assert client.record("roaster", "notes", answer())  # in the fold
    fold = Path(f"{spool}.fold")
    assert fold.stat().st_size == SLOT
    fold.unlink()
    file.parent.joinpath("file-fifo").unlink(missing_ok=True)
    PLANTS[plant](fold, file)
    module._next_warning.clear()
    assert not client.record("roaster", "notes", answer())
    assert client.lost() == 1
    assert str(fold) in caplog.text
    assert untouched(file)

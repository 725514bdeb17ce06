"""The store: full disks, limits of size and age, damaged files."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import StationError
from adq_edge.station import store as store_module
from adq_edge.station.conditions import Conditions
from adq_edge.station.database import Database
from adq_edge.station.delivery import Backoff
from adq_edge.station.events import Ticket
from adq_edge.station.image_files import KeptImages
from adq_edge.station.options import StoreOptions
from adq_edge.station.order import Reorder
from adq_edge.station.retention import Retention
from adq_edge.station.store import Store
from factories.stations import WAIT_S


def record(number: int, verdict: str = "good", size: int = 0) -> Dict[str, Any]:
    return {"id": f"1startaaa-line-{number:09}", "source": "line", "verdict": verdict, "reason": "x" * size}


@contextlib.contextmanager
def opened(folder: Path, *sinks: str, **options: Any) -> Iterator[Store]:
    store = Store(folder, StoreOptions(folder, **options), sinks, Conditions())
    try:
        yield store
    finally:
        store.close()


def add(store: Store, *numbers: int, sinks: Any = ("peer",), **values: Any) -> List[Ticket]:
    tickets = [Ticket(f"1startaaa-line-{number:09}") for number in numbers]
    for number, ticket in zip(numbers, tickets):
        store.add(record(number, size=values.get("size", 0)), ticket, sinks)
    return tickets


def wait_stored(tickets: List[Ticket]) -> None:
    for ticket in tickets:
        ticket.stored.result(WAIT_S)


def numbers_of(store: Store, sink: str = "peer", after: int = 0) -> List[int]:
    return [int(message.id[-9:]) for message in store.pending(sink, after, 1000)]


def test_full_disk_keeps_verdicts_in_memory_for_sinks_and_writes_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pages = [1]
    begin = Database.transaction

    def limited(self: Database) -> Any:
        self.connection.execute(f"PRAGMA max_page_count = {pages[0] or 2**31 - 2}")
        return begin(self)

    monkeypatch.setattr(store_module, "_RETRY_S", 0.01)
    with opened(tmp_path, "peer", "other") as store:
        wait_stored(add(store, 1, 2, sinks=("peer", "other")))
        monkeypatch.setattr(Database, "transaction", limited)
        version = store.version
        waiting = add(store, *range(3, 40), sinks=("peer", "other"), size=4000)
        while store.unstored < 37:
            store.wait_for_change(version, WAIT_S)
            version = store.version
        assert not any(ticket.stored.done() for ticket in waiting)
        assert numbers_of(store, after=0) == [1, 2]
        store.acknowledge("peer", store.pending("peer", 0, 10))
        found = store.pending("peer", 2, 10)
        assert [int(message.id[-9:]) for message in found] == list(range(3, 13))
        store.acknowledge("peer", found)
        pages[0] = 0  # space again
        wait_stored(waiting)
        assert store.unstored == 0
    with opened(tmp_path, "peer", "other") as store:
        assert numbers_of(store) == list(range(13, 40))
        assert numbers_of(store, "other") == list(range(1, 40))
        assert store.waiting == {"peer": 27, "other": 39}


def test_verdicts_beyond_the_memory_are_counted_and_delivered_ones_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: Database, *arguments: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store_module, "MOST_UNSTORED", 5)
    monkeypatch.setattr(Database, "write", fail)
    with opened(tmp_path, "peer") as store:
        version = store.version
        add(store, 1)
        while not store.unstored:
            store.wait_for_change(version, WAIT_S)
        add(store, 2, sinks=())
        add(store, 3, 4, 5, 6, 7)
        assert numbers_of(store) == [3, 4, 5, 6, 7]
        assert (store.lost, store.waiting) == (1, {"peer": 5})


def test_slow_disk_loses_no_verdict_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    is_writing, may_go_on = threading.Event(), threading.Event()
    write = Database.write

    def write_slowly(self: Database, *arguments: Any) -> None:
        is_writing.set()
        assert may_go_on.wait(WAIT_S)
        write(self, *arguments)

    monkeypatch.setattr(store_module, "MOST_UNSTORED", 5)
    conditions = Conditions()
    store = Store(tmp_path, StoreOptions(tmp_path), ["peer"], conditions)
    with contextlib.closing(store):
        monkeypatch.setattr(Database, "write", write_slowly)
        add(store, 1)
        assert is_writing.wait(WAIT_S)
        tickets = add(store, *range(2, 8))
        assert [one.problem for one in conditions.current] == [
            "the disk is too slow: 5 verdicts are in memory"
        ]
        may_go_on.set()
        wait_stored(tickets[2:])
        assert numbers_of(store) == [1, 4, 5, 6, 7]
        assert (store.lost, store.waiting) == (2, {"peer": 5})
    assert conditions.current == ()


def test_damaged_table_is_refused_in_one_line_and_the_folder_is_free_again(tmp_path: Path):
    with opened(tmp_path, "peer") as store:
        wait_stored(add(store, *range(1, 200), size=200))
    path = tmp_path / "verdicts.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    for _ in range(2):
        with pytest.raises(StationError, match="cannot be used as a store") as caught, opened(tmp_path):
            pass
        assert "Move it away" in str(caught.value)


def test_retention_deletes_delivered_verdicts_only_good_images_first(tmp_path: Path):
    options = StoreOptions(tmp_path, keep_days=1.0, max_mb=0.2)
    with opened(tmp_path, "peer") as store:
        for number in range(1, 41):
            verdict = "good" if number % 2 else "defective"
            sinks = ("peer",) if number > 36 else ()
            name = f"images/{number}.png"
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(bytes(10_000))
            kept = KeptImages(name, None, 10_000)
            ticket = Ticket("ticket")
            store.add(record(number, verdict), ticket, sinks, kept=kept)
        wait_stored([ticket])
        database = Database(tmp_path / "verdicts.sqlite", sync=False)
        assert not Retention(database, store.images, options, ["peer"]).apply()
        left = {int(path.stem) for path in (tmp_path / "images").iterdir()}
        assert {37, 38, 39, 40} <= left  # they wait for the peer
        assert not {number for number in left if number % 2 and number <= 36}
        assert {number for number in left if number <= 36} == set(range(min(left), 37, 2))
        assert database.size() <= 200_000
        with database.transaction() as connection:
            connection.execute("UPDATE verdicts SET created = created - 1e5")
        Retention(database, store.images, options, ["peer"]).apply()
        assert len(numbers_of(store)) == 4
        assert database.next_number() == 41
        assert database.connection.execute("SELECT count(*) FROM verdicts").fetchone() == (4,)
        Retention(database, store.images, options, []).apply()  # the sink is no longer named
        assert numbers_of(store) == []
        database.close_connection()


def test_ids_rise_from_start_to_start_also_if_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with opened(tmp_path) as store:
        first = store.start
    monkeypatch.setattr("adq_edge.station.database.time.time", lambda: 1000.0)
    with opened(tmp_path) as store:
        assert store.start == first + 1


def test_images_of_a_killed_station_are_deleted_and_no_other_files(tmp_path: Path):
    others = [tmp_path / "images" / "bolt" / name for name in ("part.png", "cam1-line-000000002.png")]
    others[0].parent.mkdir(parents=True)
    for path in others:
        path.write_bytes(b"of the user")
    with opened(tmp_path) as store:
        wait_stored(add(store, 1, sinks=()))
    for number in (1, 2):
        path = tmp_path / "images" / "2026-11-30" / f"1startaaa-line-{number:09}.map.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with opened(tmp_path):
        assert [path.name for path in path.parent.iterdir()] == ["1startaaa-line-000000001.map.jpg"]
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("content", [b"no database, but text" * 100, b"SQLite format 3\0" + bytes(5000)])
def test_file_that_is_no_store_is_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "verdicts.sqlite").write_bytes(content)
    with pytest.raises(StationError, match="cannot be used as a store") as caught, opened(tmp_path):
        pass
    assert "Move it away" in str(caught.value)
    assert (tmp_path / "verdicts.sqlite").read_bytes() == content


@settings(deadline=None)
@given(st.permutations(range(1, 30)))
def test_verdicts_are_released_in_order_whatever_the_order_of_results(sequence: List[int]):
    released: List[int] = []
    order: Reorder[int] = Reorder(released.append)
    for done, number in enumerate(sequence, 1):
        order.add(number, number)
        gap = next(missing for missing in range(1, 31) if missing not in sequence[:done])
        assert released == list(range(1, gap))


def test_pauses_between_attempts_double_up_to_a_limit_and_differ():
    backoff = Backoff(0.5, 60.0)
    pauses = [backoff.next_pause() for _ in range(2000)]
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses[:7]))
    assert all(30.0 <= pause <= 60.0 for pause in pauses[7:])
    assert len(set(pauses)) > 1900
    backoff.reset()
    assert backoff.next_pause() <= 0.5

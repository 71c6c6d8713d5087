"""Ids are UUIDs of version 7 that grow, never repeat across threads and forks, and are repeatable when seeded."""

from __future__ import annotations

import gc
import os
import random
import threading
import uuid
import weakref
from typing import Any

import pytest

from durable.errors import ExecutionNotFound
from durable.ids import IdSource, parse_id


def test_an_id_is_a_uuid_of_version_7_in_its_usual_form() -> None:
    made = IdSource().new_id()
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 7, uuid.RFC_4122)


def test_an_id_starts_with_its_millisecond() -> None:
    source = IdSource(now_ns=lambda: 1_700_000_000_123_456_789)
    assert uuid.UUID(source.new_id()).int >> 80 == 1_700_000_000_123


def test_all_ids_of_one_millisecond_start_with_it() -> None:
    source = IdSource(now_ns=lambda: 7_999_999)
    assert {uuid.UUID(source.new_id()).int >> 80 for _ in range(1_000)} == {7}


def test_ids_grow_within_a_millisecond_and_across_them() -> None:
    times = iter([n // 50 * 1_000_000 for n in range(5_000)])
    source = IdSource(now_ns=lambda: next(times))
    made = [source.new_id() for _ in range(5_000)]
    assert made == sorted(set(made))


def test_ids_grow_when_the_clock_steps_back() -> None:
    times = iter([5_000_000_000, 5_000_000_000, 1_000_000_000, 4_999_000_000, 5_001_000_000])
    source = IdSource(now_ns=lambda: next(times))
    made = [source.new_id() for _ in range(5)]
    assert made == sorted(set(made))


class _Greedy(random.Random):
    """Draws the largest number each time, so a millisecond runs out of serials as early as possible."""

    def getrandbits(self, k: int, /) -> int:
        return (1 << k) - 1


def test_ids_grow_when_a_millisecond_runs_out_of_serials() -> None:
    source = IdSource(random=_Greedy(), now_ns=lambda: 7_000_000)
    first = source.new_id()
    source._serial = (1 << 48) - 2  # pyright: ignore[reportPrivateUsage]  # 2**27 calls would be needed otherwise
    second = source.new_id()
    assert first < second
    assert uuid.UUID(second).int >> 80 == 8
    assert uuid.UUID(second).version == 7


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1_000, 1_001, 3_500])
def test_many_ids_at_once_are_as_good_as_one_by_one(count: int) -> None:
    source = IdSource(now_ns=lambda: 7_000_000)
    made = [source.new_id(), *source.new_ids(count), source.new_id()]
    assert made == sorted(set(made))
    assert len(made) == count + 2
    assert {(uuid.UUID(id_).version, uuid.UUID(id_).int >> 80) for id_ in made} == {(7, 7)}


class _Idle(random.Random):
    """Draws the smallest number each time."""

    def getrandbits(self, k: int, /) -> int:
        return 0


def test_many_ids_at_once_grow_whatever_is_drawn() -> None:
    made = IdSource(random=_Idle(), now_ns=lambda: 7_000_000).new_ids(2_000)
    assert made == sorted(set(made))


def test_many_ids_at_once_grow_when_the_clock_moves_and_when_it_steps_back() -> None:
    times = iter([5_000_000_000, 6_000_000_000, 1_000_000_000, 7_000_000_000])
    source = IdSource(now_ns=lambda: next(times))
    made = [id_ for _ in range(4) for id_ in source.new_ids(10)]
    assert made == sorted(set(made))
    assert [uuid.UUID(id_).int >> 80 for id_ in made[::10]] == [5_000, 6_000, 6_000, 7_000]


def test_many_ids_at_once_grow_when_a_millisecond_runs_out_of_serials() -> None:
    source = IdSource(random=_Greedy(), now_ns=lambda: 7_000_000)
    first = source.new_id()
    source._serial = (1 << 48) - 5 * (1 << 20)  # pyright: ignore[reportPrivateUsage]  # as above
    made = source.new_ids(100)
    assert [first, *made] == sorted({first, *made})
    assert all(len(id_) == 36 and uuid.UUID(id_).version == 7 for id_ in made)


def test_a_seed_makes_ids_repeatable() -> None:
    def make() -> list[str]:
        source = IdSource(random=random.Random(7), now_ns=lambda: 9_000_000_000)
        return [source.new_id() for _ in range(10)]

    assert make() == make()


def test_two_sources_in_one_millisecond_differ() -> None:
    sources = [IdSource(now_ns=lambda: 9_000_000_000) for _ in range(100)]
    assert len({source.new_id()[:23] for source in sources}) == 100


def test_threads_never_get_the_same_id() -> None:
    source = IdSource()
    together = threading.Barrier(8)
    made: list[list[str]] = []

    def work() -> None:
        together.wait(timeout=10)
        made.append([source.new_id() for _ in range(2_000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert all(part == sorted(part) for part in made)
    assert len({each for part in made for each in part}) == 16_000


def _ids_of_a_forked_child(source: IdSource, count: int) -> list[str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, "\n".join(source.new_id() for _ in range(count)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().split()
    os.waitpid(child, 0)
    return lines


def test_a_forked_child_does_not_repeat_its_parents_ids() -> None:
    now = 9_000_000_000
    source = IdSource(now_ns=lambda: now)
    source.new_id()
    now += 1_000_000  # both sides open a new millisecond, so both draw everything that an id is made of
    child = _ids_of_a_forked_child(source, 20)
    parent = [source.new_id() for _ in range(20)]
    assert len(child) == 20
    assert not set(child) & set(parent)
    assert not {each[:23] for each in child} & {each[:23] for each in parent}


def test_a_child_forked_while_a_thread_makes_an_id_is_not_blocked() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow_clock() -> int:
        if threading.current_thread() is worker:
            inside.set()
            go_on.wait(timeout=10)
        return 9_000_000_000

    source = IdSource(now_ns=slow_clock)
    worker = threading.Thread(target=source.new_id)
    worker.start()
    assert inside.wait(timeout=10)
    try:
        assert len(_ids_of_a_forked_child(source, 1)) == 1
    finally:
        go_on.set()
        worker.join(timeout=10)


def test_a_source_can_be_freed_although_it_watches_forks() -> None:
    source = IdSource()
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None


def test_parse_id_gives_the_stored_form() -> None:
    stored = "01a1fdf3-9f7b-7303-b34a-3ba33905ee37"
    assert parse_id(stored) == stored
    assert parse_id(stored.upper()) == stored
    assert parse_id(stored.replace("-", "")) == stored


@pytest.mark.parametrize(
    "text",
    [
        "",
        "order-42",
        "\0",
        "{01a1fdf3-9f7b-7303-b34a-3ba33905ee37}",
        "urn:uuid:01a1fdf3-9f7b-7303-b34a-3ba33905ee37",
        "01a1fdf3-9f7b-7303-b34a-3ba33905ee37\n",
        "0" * 31,
        "g" * 32,
        "\N{ARABIC-INDIC DIGIT ZERO}" * 32,
        "x" * 9_000,
    ],
)
def test_parse_id_answers_text_that_is_no_uuid_as_an_unknown_id(text: str) -> None:
    with pytest.raises(ExecutionNotFound) as caught:
        parse_id(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [None, 5, b"0" * 32, uuid.uuid4(), ["x"]])
def test_parse_id_refuses_what_is_no_text(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        parse_id(value)

"""Contract of the outbox: notices wait, in order, and one holder at a time delivers them to a subscriber."""

from __future__ import annotations

from durable.events import EventName
from durable.execution import Kind
from durable.notice import NewNotice
from durable.testing.contract.scene import Case, Scene
from durable.testing.contract.together import in_threads, together

__all__ = ["NoticesContract"]

LEASE = 30.0


class NoticesContract(Case):
    async def take(
        self, scene: Scene, subscriber: str = "subscriber", *, holder: str = "a", limit: int = 100, handle: int = 0
    ) -> list[str]:
        """The ids of what a holder is given to deliver."""
        taken = await scene.subject.handles[handle].take_notices(subscriber, holder=holder, limit=limit, lease=LEASE)
        return [notice.id for notice in taken.notices]

    async def emit(self, scene: Scene, count: int, subscriber: str = "subscriber") -> list[str]:
        notices = [scene.make.notice(subscriber) for _ in range(count)]
        await scene.storage.emit(notices)
        return [notice.id for notice in notices]

    # --- emit and take ---------------------------------------------------------------------------------------

    async def test_emit_keeps_every_field_and_the_storage_clock(self, scene: Scene) -> None:
        new = NewNotice(
            "su\"b{s}", scene.make.id(), "job.failed", "debounce:mail:k,1", "debounce", "ma\\il", "k,1", '{"a": "\\""}',
            '{"type": "E", "message": "no"}', '{"input": "{}"}',
        )  # fmt: skip
        await scene.storage.emit([new])
        (notice,) = (await scene.storage.take_notices(new.subscriber, holder="a", limit=9, lease=LEASE)).notices
        fields = {name: value for name, value in new._asdict().items() if name != "subscriber"}
        assert notice._asdict() == {**fields, "at": await scene.subject.now()}

    async def test_a_notice_of_an_enum_is_given_as_plain_text(self, scene: Scene) -> None:
        await scene.storage.emit([scene.make.notice(name=EventName.JOB_FAILED, kind=Kind.TURN)])
        (notice,) = (await scene.storage.take_notices("subscriber", holder="a", limit=9, lease=LEASE)).notices
        assert (notice.name, notice.kind) == ("job.failed", "turn")
        assert (type(notice.name), type(notice.kind)) == (str, str)

    async def test_emit_of_nothing_is_accepted(self, scene: Scene) -> None:
        await scene.storage.emit([])
        assert await scene.storage.undelivered() == {}

    async def test_emit_again_leaves_what_is_there(self, scene: Scene) -> None:
        notice = scene.make.notice()
        await scene.storage.emit([notice])
        await scene.subject.advance(1.0)
        await scene.storage.emit([notice._replace(name="other"), notice._replace(subscriber="second")])
        (kept,) = (await scene.storage.take_notices("subscriber", holder="a", limit=9, lease=LEASE)).notices
        assert (kept.name, kept.at < await scene.subject.now()) == (notice.name, True)
        assert await scene.storage.undelivered() == {"subscriber": 1, "second": 1}

    async def test_emit_joins_the_transaction_of_a_caller(self, scene: Scene) -> None:
        async with scene.subject.rolled_back() as connection:
            await scene.storage.emit([scene.make.notice()]).await_on(connection)
        assert await scene.storage.undelivered() == ({} if scene.subject.has_transactions else {"subscriber": 1})

    async def test_take_notices_gives_the_oldest_first_and_by_id_where_they_are_of_one_moment(
        self, scene: Scene
    ) -> None:
        late = [scene.make.notice() for _ in range(3)]
        early = [scene.make.notice() for _ in range(3)]
        await scene.storage.emit(early[::-1])
        await scene.subject.advance(1.0)
        await scene.storage.emit(late)
        ids = [notice.id for notice in [*early, *late]]
        assert await self.take(scene, limit=4) == ids[:4]
        assert await self.take(scene) == ids

    async def test_take_notices_of_one_subscriber_leaves_those_of_others(self, scene: Scene) -> None:
        one, two = await self.emit(scene, 2, "one"), await self.emit(scene, 1, "two")
        assert await self.take(scene, "one") == one
        assert await self.take(scene, "two", holder="b") == two
        assert await self.take(scene, "three") == []

    async def test_take_notices_gives_an_earlier_one_that_was_committed_later(self, scene: Scene) -> None:
        first, second = scene.make.notice(), scene.make.notice()
        await scene.storage.emit([second])
        await scene.storage.delivered("subscriber", await self.take(scene), holder="a")
        await scene.storage.emit([first])
        assert await self.take(scene) == [first.id]

    # --- the right to deliver --------------------------------------------------------------------------------

    async def test_take_notices_refuses_a_second_holder_until_the_lease_is_over(self, scene: Scene) -> None:
        ids = await self.emit(scene, 2)
        assert await self.take(scene) == ids
        assert await self.take(scene, holder="b", handle=1) == []
        await scene.subject.advance(LEASE - 0.001)
        assert await self.take(scene, holder="b", handle=1) == []
        await scene.subject.advance(0.001)
        assert await self.take(scene, holder="b", handle=1) == ids
        assert await self.take(scene) == []

    async def test_take_notices_again_keeps_the_right(self, scene: Scene) -> None:
        ids = await self.emit(scene, 1)
        await self.take(scene)
        await scene.subject.advance(LEASE - 1.0)
        assert await self.take(scene) == ids
        await scene.subject.advance(LEASE - 1.0)
        assert await self.take(scene, holder="b") == []

    async def test_take_notices_of_nothing_lets_the_right_go(self, scene: Scene) -> None:
        await self.emit(scene, 1)
        await scene.storage.delivered("subscriber", await self.take(scene), holder="a")
        assert await self.take(scene) == []
        ids = await self.emit(scene, 1)
        assert await self.take(scene, holder="b", handle=1) == ids

    async def test_take_notices_of_nothing_leaves_the_right_of_another(self, scene: Scene) -> None:
        await self.emit(scene, 1)
        await scene.storage.delivered("subscriber", await self.take(scene), holder="a")
        assert await self.take(scene, holder="b") == []
        ids = await self.emit(scene, 1)
        assert await self.take(scene, holder="b") == []
        assert await self.take(scene) == ids

    async def test_take_notices_by_many_at_once_gives_them_to_one(self, scene: Scene) -> None:
        ids = await self.emit(scene, 20)
        takes = [
            handle.take_notices("subscriber", holder=f"{number} {round_}", limit=100, lease=LEASE)
            for number, handle in enumerate(scene.subject.handles)
            for round_ in range(3)
        ]
        taken = await together(*takes)
        assert sorted(len(found.notices) for found in taken) == [0] * 8 + [len(ids)]

    async def test_take_notices_never_gives_what_the_holder_before_has_delivered(self, scene: Scene) -> None:
        """Each holder delivers and lets go while the others ask: nobody is given anything twice, and none is lost."""
        ids = await self.emit(scene, 60)
        given: list[str] = []

        async def deliver(number: int) -> None:
            storage, holder = scene.subject.handles[number], f"holder {number}"
            while await storage.undelivered():
                taken = await storage.take_notices("subscriber", holder=holder, limit=5, lease=LEASE)
                given.extend(notice.id for notice in taken.notices)
                if taken.notices:
                    await storage.delivered("subscriber", [notice.id for notice in taken.notices], holder=holder)
                    await storage.put_off_delivery("subscriber", holder=holder, delay=0.0)

        await together(*(deliver(number) for number in range(3)))
        assert given == ids

    async def test_renew_delivery_extends_the_right(self, scene: Scene) -> None:
        await self.emit(scene, 1)
        await self.take(scene)
        await scene.subject.advance(LEASE - 1.0)
        assert await scene.storage.renew_delivery("subscriber", holder="a", lease=LEASE)
        await scene.subject.advance(LEASE - 1.0)
        assert await self.take(scene, holder="b") == []

    async def test_renew_delivery_is_refused_to_who_has_lost_the_right_or_never_had_it(self, scene: Scene) -> None:
        await self.emit(scene, 1)
        await self.take(scene)
        await scene.subject.advance(LEASE)
        await self.take(scene, holder="b")
        assert not await scene.storage.renew_delivery("subscriber", holder="a", lease=LEASE)
        assert not await scene.storage.renew_delivery("other", holder="a", lease=LEASE)
        assert await scene.storage.renew_delivery("subscriber", holder="b", lease=LEASE)

    # --- delivered, and not ----------------------------------------------------------------------------------

    async def test_delivered_notices_are_gone_and_the_others_are_next(self, scene: Scene) -> None:
        ids = await self.emit(scene, 3)
        await scene.storage.delivered("subscriber", ids[:2], holder="a")
        assert await self.take(scene) == ids[2:]

    async def test_delivered_to_one_subscriber_leaves_the_same_event_of_another(self, scene: Scene) -> None:
        notice = scene.make.notice("one")
        await scene.storage.emit([notice, notice._replace(subscriber="two")])
        await scene.storage.delivered("one", [notice.id], holder="a")
        assert await self.take(scene, "two") == [notice.id]

    async def test_delivered_counts_also_from_who_has_lost_the_right(self, scene: Scene) -> None:
        ids = await self.emit(scene, 2)
        await self.take(scene)
        await scene.subject.advance(LEASE)
        await self.take(scene, holder="b", limit=1)
        await scene.storage.delivered("subscriber", ids[:1], holder="a")
        assert await self.take(scene, holder="b") == ids[1:]

    async def test_put_off_delivery_keeps_the_notices_from_everybody_for_a_while(self, scene: Scene) -> None:
        ids = await self.emit(scene, 2)
        await self.take(scene)
        await scene.storage.put_off_delivery("subscriber", holder="a", delay=10.0)
        await scene.subject.advance(9.999)
        assert (await self.take(scene), await self.take(scene, holder="b", handle=1)) == ([], [])
        await scene.subject.advance(0.001)
        assert await self.take(scene, holder="b", handle=1) == ids

    async def test_put_off_delivery_counts_failures_until_one_is_delivered(self, scene: Scene) -> None:
        ids = await self.emit(scene, 2)
        counts: list[int] = []
        for holder in ("a", "b", "c"):
            taken = await scene.storage.take_notices("subscriber", holder=holder, limit=9, lease=LEASE)
            counts.append(taken.failure_count)
            await scene.storage.put_off_delivery("subscriber", holder=holder, delay=0.0)
        assert counts == [0, 1, 2]
        await self.take(scene)
        await scene.storage.delivered("subscriber", ids[:1], holder="a")
        taken = await scene.storage.take_notices("subscriber", holder="a", limit=9, lease=LEASE)
        assert ([notice.id for notice in taken.notices], taken.failure_count) == (ids[1:], 0)

    async def test_put_off_delivery_is_refused_to_who_has_lost_the_right(self, scene: Scene) -> None:
        ids = await self.emit(scene, 1)
        await self.take(scene)
        await scene.subject.advance(LEASE)
        await self.take(scene, holder="b")
        await scene.storage.put_off_delivery("subscriber", holder="a", delay=1_000.0)
        assert await self.take(scene, holder="b") == ids

    async def test_undelivered_counts_by_subscriber(self, scene: Scene) -> None:
        assert await scene.storage.undelivered() == {}
        await self.emit(scene, 3, "one")
        await self.emit(scene, 1, "two")
        assert await scene.subject.handles[1].undelivered() == {"one": 3, "two": 1}

    async def test_discard_notices_forgets_one_subscriber(self, scene: Scene) -> None:
        await self.emit(scene, 3, "one")
        kept = await self.emit(scene, 1, "two")
        await self.take(scene, "one")
        await scene.storage.put_off_delivery("one", holder="a", delay=1_000.0)
        assert await scene.storage.discard_notices("one") == 3
        assert await scene.storage.discard_notices("one") == 0
        assert await self.take(scene, "two") == kept
        again = await self.emit(scene, 1, "one")
        assert await self.take(scene, "one", holder="b") == again

    async def test_take_notices_and_emit_run_from_blocking_threads(self, scene: Scene) -> None:
        notices = [scene.make.notice() for _ in range(3)]
        handles = scene.subject.handles
        await in_threads([handle.emit([notice]) for handle, notice in zip(handles, notices, strict=False)])
        assert await self.take(scene) == [notice.id for notice in notices]

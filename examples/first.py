"""The first task and the first tree: start executions, wait for their results, and look at one of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from durable import ChildResult, Durable, Retry, Spawn, exponential

app = Durable()  # Postgres under ./.durable; Durable("postgresql://…") where you have a server


@dataclass
class Item:
    name: str
    grams: int
    count: int = 1


@dataclass
class Quote:
    order: str
    grams: int
    euros: float


@app.task(retry=Retry(max_attempts=5, delay=exponential("100ms", max="5s")), timeout="10s")
async def weigh(item: Item) -> int:
    """A task: an ordinary function, still callable as one."""
    return item.grams * item.count


async def price(order: str, weights: list[ChildResult[int]]) -> Quote:
    """Runs when every child has ended; `result()` raises for one that failed, and then the quote fails."""
    grams = sum(weight.result() for weight in weights)
    return Quote(order, grams, euros=4 + grams / 1000)


@app.parent(finalize=price)
async def quote(order: str, items: list[Item]) -> Spawn[str]:
    """A parent: says which executions run next, on whatever executor has room."""
    return Spawn(order, [weigh.child(item) for item in items])


async def main() -> None:
    async with app.executor():  # runs executions here; `async with app:` only starts and awaits them
        handle = await weigh.enqueue(Item("book", grams=400, count=2))
        print("one task:", await handle.result(timeout="30s"))

        items = [Item("book", 400), Item("pen", 15, count=10), Item("lamp", 2200)]
        tree = await quote.enqueue("order-42", items, idempotency_key="quote-order-42")
        print("a tree:", await tree.result(timeout="30s"))
        print("its children:", [child.output for child in await tree.children()])
        print("the same key is the same execution:", tree.execution_id)


if __name__ == "__main__":
    asyncio.run(main())

"""Import a CSV of 10,000 rows every night: a child for each slice of it, a few failures tolerated, and a report.

Shows `ctx.map` over many items with a limit of what runs at once, a task that refuses bad rows, and a result made of
all. The rows are written first: what the census example counts, the words of this project. Run it with
`python -m examples.nightly_import`.
"""

from __future__ import annotations

import asyncio
import csv
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from durable import Durable, NonRetryable, WorkflowContext

app = Durable()
ROWS, SLICE = 10_000, 50


def write_rows(path: Path) -> None:
    """One row for each word: the file it is in, its place, and the word; a few have no place."""
    root = Path(__file__).parent.parent
    with path.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        count = 0
        for file in sorted([*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("durable/**/*.py")]):
            for place, word in enumerate(re.findall(r"[A-Za-z]{3,}", file.read_text(encoding="utf-8"))):
                rows.writerow([file.name, "" if count % 4_000 == 3_999 else place, word.lower()])
                count += 1
                if count == ROWS:
                    return


@app.task
def load(given: tuple[str, int]) -> dict[str, int]:
    """The words of one slice of the file, counted; a slice with a bad row is refused as a whole."""
    path, first = given
    with Path(path).open(newline="", encoding="utf-8") as lines:
        rows = [row for number, row in enumerate(csv.reader(lines)) if first <= number < first + SLICE]
    if any(not place for _, place, _ in rows):
        raise NonRetryable(f"a row from {first} on has no place")
    return dict(Counter(word for _, _, word in rows))


@app.workflow
async def nightly(ctx: WorkflowContext, path: str) -> dict[str, int]:
    slices = [(path, first) for first in range(0, ROWS, SLICE)]
    ends = await ctx.map(load, slices, concurrency=40, tolerate_failures="5%")
    total: Counter[str] = Counter()
    for end in ends:
        total.update(end.output or {})
    ctx.publish("refused", sum(not end.is_completed for end in ends))
    return dict(total.most_common(3))


async def main() -> tuple[dict[str, int], int]:
    """The three most frequent words, and how many slices were refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "words.csv"
        write_rows(path)
        async with app.executor(poll_interval="50ms", concurrency=20), asyncio.timeout(120):
            handle = await nightly.enqueue(str(path))
            words = await handle.result()
            refused = await handle.value("refused", int) or 0
    print(f"{ROWS - refused * SLICE} rows imported, {refused} slices refused; most frequent: {words}")
    return words, refused


if __name__ == "__main__":
    asyncio.run(main())

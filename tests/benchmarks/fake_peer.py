"""A program as those of the peers are, for a library that is not there: it claims to have done everything.

What it does besides is the count: 13 ends badly, 14 does half, 15 prints no object, 16 never ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

workload, count = sys.argv[1], int(sys.argv[2])
if count == 13:
    print("the cause of it", file=sys.stderr)
    sys.exit(3)
if count == 15:
    print("all is well")
    sys.exit()
if count == 16:
    Path(os.environ["FAKE_PID"]).write_text(str(os.getpid()))
    time.sleep(600)
if workload == "idle":
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps({"seconds": 2.0, "cpu_s": 0.5}))
elif workload == "latency":
    print(json.dumps({"latencies_ms": [float(number) for number in range(1, count + 1)]}))
else:
    done = count // 2 if count == 14 else count
    place = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    print(json.dumps({"seconds": 2.0, "done": done, "place": place}))

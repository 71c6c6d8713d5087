// graphile-worker on Node: its program for `python -m benchmarks compare`.
//
// Prints what benchmarks/peers/script.py prints for the programs in Python. The server is named by the variables of
// libpq; NODE_PATH does not count for modules, so the folder of the packages is in PACKAGES.

import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(`${process.env.PACKAGES}/package.json`);
const { Logger, makeWorkerUtils, run } = require("graphile-worker");

const WARM_UP = 20;
const SETTLE_MS = 2000;
const CONCURRENT_JOBS = 24;
const LOCAL_QUEUE = 500;

const quiet = new Logger(() => () => {});

// As its documentation does for throughput: a local queue, and completions in batches.
const preset = {
  worker: {
    concurrentJobs: CONCURRENT_JOBS,
    maxPoolSize: CONCURRENT_JOBS + 1,
    localQueue: { size: LOCAL_QUEUE },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: quiet,
  },
};

async function installed(measure) {
  const utils = await makeWorkerUtils({ logger: quiet });
  try {
    await utils.migrate();
    return await measure(utils);
  } finally {
    await utils.release();
  }
}

async function working(task, measure) {
  const runner = await run({ preset, taskList: { noop: task }, parsedCronItems: [], noHandleSignals: true });
  try {
    return await measure();
  } finally {
    await runner.stop();
  }
}

const jobs = (count) => Array.from({ length: count }, (_, number) => ({ identifier: "noop", payload: { number } }));

async function known(utils) {
  const text = "select count(*)::int as count from graphile_worker._private_jobs";
  const { rows } = await utils.withPgClient((client) => client.query(text));
  return rows[0].count;
}

async function drain(count) {
  let done = 0;
  let firstAt;
  let last;
  const all = new Promise((resolve) => {
    last = resolve;
  });
  const noop = () => {
    firstAt ??= performance.now();
    done += 1;
    if (done === count) last();
  };
  return installed(async (utils) => {
    await utils.addJobs(jobs(count));
    await utils.withPgClient((client) => client.query("analyze"));
    const seconds = await working(noop, async () => {
      await all;
      while ((await known(utils)) > 0) await sleep(2);
      return (performance.now() - firstAt) / 1000;
    });
    return { seconds, done };
  });
}

async function enqueue(count) {
  return installed(async (utils) => {
    const began = performance.now();
    for (let number = 0; number < count; number += 1) await utils.addJob("noop", { number });
    const seconds = (performance.now() - began) / 1000;
    return { seconds, done: await known(utils) };
  });
}

async function bulk(count) {
  return installed(async (utils) => {
    const specs = jobs(count);
    const began = performance.now();
    await utils.addJobs(specs);
    const seconds = (performance.now() - began) / 1000;
    return { seconds, done: await known(utils) };
  });
}

async function latency(count) {
  const starts = [];
  let wake = () => {};
  const stamp = () => {
    starts.push(performance.now());
    wake();
  };
  const started = async () => {
    while (starts.length === 0) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    return starts.shift();
  };
  return installed((utils) =>
    working(stamp, async () => {
      const found = [];
      for (let number = 0; number < WARM_UP + count; number += 1) {
        await utils.addJob("noop", { number });
        const committedAt = performance.now();
        found.push((await started()) - committedAt);
        await sleep(5);
      }
      return { latencies_ms: found.slice(WARM_UP) };
    }),
  );
}

async function idle() {
  return installed(() =>
    working(() => {}, async () => {
      await sleep(SETTLE_MS);
      const busy = process.cpuUsage();
      const began = performance.now();
      process.stdout.write("ready\n");
      for await (const _ of process.stdin);
      const { user, system } = process.cpuUsage(busy);
      return { seconds: (performance.now() - began) / 1000, cpu_s: (user + system) / 1e6 };
    }),
  );
}

const [workload, count] = process.argv.slice(2);
const found = await { drain, enqueue, bulk, latency, idle }[workload](Number(count));
process.stdout.write(`${JSON.stringify(found)}\n`);

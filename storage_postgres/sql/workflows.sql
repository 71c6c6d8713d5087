-- name: hold_executions
-- Hold executions, and the parents of some, for a transaction whose later statements write them: these see all that was
-- committed before, and nothing else changes meanwhile. Locks them in one go, in the order of `tell_parents`.
-- Index: the primary key.
with patience as materialized (select /*include may_wait*/)
select e.id
from /*schema*/executions as e
where e.id = any(array(
        select i.id from unnest(%(ids)s::uuid[]) as i (id)
        union
        select p.parent_id
        from /*schema*/executions as p
        where p.id = any(%(children)s::uuid[]) and p.parent_id is not null))
    and (select count(*) from patience) > 0
order by e.depth desc, e.id
for no key update of e;

-- name: open_turns
-- Which turns still have their fence, by place, and whether the entry that each of them begins with is there already.
-- The transaction holds the rows. Index: the primary keys.
select i.place - 1,
    exists (select 1 from /*schema*/history as h where h.execution_id = any(array[i.id]) and h.seq = any(array[i.seq]))
from unnest(%(id)s::uuid[], %(fence)s::bigint[], %(seq)s::integer[]) with ordinality as i (id, fence, seq, place)
    join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence]);

-- name: checkpoint
-- Append to the histories of running workflows, each under its fence alone, which proves that it runs; gives how those
-- stand that still have theirs. An entry that is there was written by an earlier try: it stays as it is, and is written
-- over with itself because that gives its moment, also where the try was committed after this statement began.
-- Locks the executions, in the order of `tell_parents`, so that no late writer gets in beside what takes its fence away.
-- Index: the primary keys.
with at as materialized (select /*schema*/clock_now() as now, /*include may_wait*/),
held as materialized (
    select e.id, e.fence, e.message_count, e.active_children_count
    from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
        join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
        cross join at
    order by e.depth desc, e.id
    for no key update of e
),
written as (
    insert into /*schema*/history as e (execution_id, seq, kind, key, output, error, detail, at)
    select n.id, n.seq, n.kind, n.key, n.output, n.error, n.detail, at.now
    from unnest(
        %(entry_id)s::uuid[], %(entry_fence)s::bigint[], %(seq)s::integer[], %(kind)s::text[], %(key)s::text[],
        %(output)s::text[], %(error)s::text[], %(detail)s::text[]
    ) as n (id, fence, seq, kind, key, output, error, detail)
        join held as h on h.id = n.id and h.fence = n.fence
        cross join at
    on conflict (execution_id, seq) do update set at = e.at
    returning e.execution_id, e.at
)
select h.id, h.message_count, h.active_children_count, coalesce(w.at, at.now), at.now
from held as h
    left join (select n.execution_id as id, max(n.at) as at from written as n group by n.execution_id) as w on w.id = h.id
    cross join at;

-- name: supersede
-- Delete entries that newer ones stand for, of workflows that are held. Locks what it deletes. Index: the primary key of
-- history.
delete from /*schema*/history as h
using unnest(%(id)s::uuid[], %(seq)s::integer[]) as i (id, seq)
where h.execution_id = any(array[i.id])
    and h.seq = any(array[i.seq])
returning h.seq;

-- name: forgive_deliveries
-- Workflows that got on count the delivery that did so and none before it. Locks what it writes; the transaction has
-- locked it. Index: the primary key.
update /*schema*/executions as e
set deliveries = 1,
    updated_at = /*schema*/clock_now()
from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
where e.id = any(array[i.id])
    and e.fence = any(array[i.fence])
    and e.deliveries > 1
returning e.id;

-- name: spawn_from_turns
-- Insert and count the children of workflows that run and are held. Locks what it writes. Index: the primary key, and the
-- unique ones.
with at as materialized (select /*schema*/clock_now() as now),
settled as (
    update /*schema*/executions as e
    set children_count = e.children_count + i.children,
        active_children_count = e.active_children_count + i.children,
        updated_at = at.now
    from unnest(%(id)s::uuid[], %(children)s::integer[]) as i (id, children)
        cross join at
    where e.id = any(array[i.id])
    returning e.id, e.root_id
),
/*include spawn_children*/
select distinct c.queue from inserted as c where c.status = 'ready' and c.due_at <= (select now from at);

-- name: due_queues
-- The queues of those among some executions that are ready and due. Index: the primary key.
select distinct e.queue
from /*schema*/executions as e
where e.id = any(%(ids)s::uuid[])
    and e.status = 'ready'
    and e.due_at <= (select /*schema*/clock_now());

-- name: publish
-- Store published values of workflows that are held; one that is there gets its next version. Locks what it writes.
-- Index: the primary key of published.
insert into /*schema*/published as p (execution_id, key, value, version, at)
select i.id, i.key, i.value, 1, at.now
from unnest(%(id)s::uuid[], %(key)s::text[], %(value)s::text[]) as i (id, key, value)
    cross join (select /*schema*/clock_now() as now) as at
on conflict (execution_id, key) do update
set value = excluded.value, version = p.version + 1, at = excluded.at
returning p.version;

-- name: append_chunks
-- Append to the streamed output of workflows that are held. Locks nothing. Index: the primary key of chunks.
with given as materialized (
    select i.id, i.payload, row_number() over (partition by i.id order by i.place) as place
    from unnest(%(id)s::uuid[], %(payload)s::text[]) with ordinality as i (id, payload, place)
),
ends as materialized (
    select g.id, coalesce(c.number, 0) as number
    from (select distinct given.id from given) as g
        left join lateral (
            select k.number
            from /*schema*/chunks as k
            where k.execution_id = g.id
            order by k.number desc
            limit 1
        ) as c on true
)
insert into /*schema*/chunks (execution_id, number, payload, at)
select g.id, e.number + g.place, g.payload, at.now
from given as g
    join ends as e on e.id = g.id
    cross join (select /*schema*/clock_now() as now) as at
returning number;

-- name: send_messages
-- Append messages to workflows, in the order given: numbered by the receiver's row, which is locked, and so in the order
-- of commits. A suspended receiver becomes ready, a running one is marked; that is decided on its own columns once more,
-- because the update first makes its new row from what the statement saw at its start, and only then from what is locked.
-- Where a message has an id, the transaction holds the receivers before, to see what they have. Locks the receivers in the order of `tell_parents`.
-- Index: the primary key, messages_message_id.
with at as materialized (select /*schema*/clock_now() as now),
sent as materialized (
    select i.*, row_number() over (partition by i.id, coalesce(i.message_id, i.place::text), i.message_id is null
        order by i.place) as try
    from unnest(
        %(id)s::uuid[], %(kind)s::text[], %(name)s::text[], %(payload)s::text[], %(message_id)s::text[]
    ) with ordinality as i (id, kind, name, payload, message_id, place)
),
held as materialized (
    select e.id, e.kind, e.status, e.queue, e.message_count, e.finished_at is not null as is_finished,
        e.status = 'waiting' or e.status = 'ready' and e.due_at > at.now and e.fence > 0 as is_put_off,
        e.status = 'ready' and e.attempts > 0 as is_retried
    from /*schema*/executions as e
        cross join at
    where e.id = any(array(select s.id from sent as s))
    order by e.depth desc, e.id
    for no key update of e
),
judged as materialized (
    select s.*, h.status, h.queue, h.message_count, k.number as known,
        h.is_put_off and (not h.is_retried or s.kind = 'cancel') as wakes,
        case
            when h.id is null then 'not_found'
            when h.kind <> 'workflow' then 'not_a_workflow'
            when k.number is not null then 'duplicate'
            when h.is_finished then 'finished'
            when s.try > 1 then 'duplicate'
            else 'accepted' end as outcome
    from sent as s
        left join held as h on h.id = s.id
        left join lateral (
            select m.number & 1073741823 as number
            from /*schema*/messages as m
            where m.execution_id = any(array[s.id]) and m.message_id = any(array[s.message_id])
            offset 0
        ) as k on true
),
placed as materialized (
    select j.*, j.message_count + row_number() over (partition by j.id order by j.place) as number,
        j.wakes and row_number() over (partition by j.id, j.wakes order by j.place) = 1 as is_waker
    from judged as j
    where j.outcome = 'accepted'
),
stored as (
    insert into /*schema*/messages (execution_id, number, kind, name, payload, message_id, at)
    select p.id, p.number, p.kind, p.name, p.payload, p.message_id, at.now from placed as p cross join at
),
received as (
    update /*schema*/executions as e
    set message_count = e.message_count + r.messages,
        (status, due_at, wake_at_children) = (
            select case when w.wakes then 'ready' else e.status end,
                case when w.wakes then at.now else e.due_at end,
                case when not w.wakes then e.wake_at_children end
            from (
                select e.status = 'waiting' or e.status = 'ready' and e.due_at > at.now and e.fence > 0
                    and (e.attempts = 0 or r.asks) as wakes
            ) as w
        ),
        needs_cancel = e.status = 'running',
        updated_at = at.now
    from (
        select p.id, count(*)::integer as messages, bool_or(p.kind = 'cancel') as asks from placed as p group by p.id
    ) as r
        cross join at
    where e.id = any(array[r.id])
)
select j.outcome, coalesce(p.number, j.known, f.number), case when p.is_waker then j.queue end,
    j.outcome in ('accepted', 'duplicate') and j.status = 'running'
from judged as j
    left join placed as p on p.place = j.place
    left join placed as f on j.outcome = 'duplicate' and f.id = j.id and f.message_id = j.message_id
order by j.place;

-- name: own_children
-- Those of the pairs of child and parent that are right. The transaction holds the rows. Index: the primary key.
select e.id
from unnest(%(child)s::uuid[], %(parent)s::uuid[]) as i (child, parent)
    join /*schema*/executions as e on e.id = any(array[i.child]) and e.parent_id = any(array[i.parent]);

-- name: end_workflow_turns
-- The ends of turns of workflows, whose rows and parents the transaction holds, so that all is decided on what stands in
-- them now. A turn that is suspended is ready at once if what it waits for has come. The children that end with their
-- parent are counted in the parent's own write, because a statement writes a row once. Locks nothing new.
-- Index: the primary key, see `tell_parents`.
with at as materialized (select /*schema*/clock_now() as now),
turns as materialized (
    select i.*, f.*, case when f.is_end then e.parent_id end as parent_id
    from unnest(
        %(id)s::uuid[], %(fence)s::int8[], %(status)s::text[], %(phase)s::text[], %(attempts)s::int[],
        %(deliveries)s::int[], %(iteration)s::int[], %(delay)s::float8[], %(output)s::text[],
        %(run_output)s::text[], %(error)s::text[], %(reason)s::text[], %(is_suspension)s::bool[],
        %(seen_messages)s::int[], %(wake_at_children)s::int[]
    ) as i (
        id, fence, status, phase, attempts, deliveries, iteration, delay, output, run_output, error, reason,
        is_suspension, seen_messages, wake_at_children
    )
        cross join lateral (
            select i.status in ('completed', 'failed', 'timed_out', 'finalize_failed', 'cancelled') as is_end,
                (i.status <> 'completed')::int as failed
        ) as f
        join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
),
own as materialized (
    select t.parent_id as id, count(*)::int as children, sum(t.failed) as failed
    from turns as t
    where t.parent_id in (select id from turns)
    group by t.parent_id
),
judged as materialized (
    select t.*, n.children, n.told, t.is_suspension and (
            n.told > t.seen_messages or coalesce(n.children <= t.wake_at_children, false)) as goes_on
    from turns as t
        join /*schema*/executions as e on e.id = any(array[t.id])
        left join own on own.id = t.id
        cross join lateral (
            select e.active_children_count - coalesce(own.children, 0) as children,
                e.message_count + coalesce(own.failed, 0) as told
        ) as n
),
settled as (
    update /*schema*/executions as e
    set status = case when i.goes_on then 'ready' else i.status end,
        phase = i.phase,
        fence = i.fence + 1,
        settled_fence = i.fence,
        attempts = i.attempts,
        deliveries = i.deliveries,
        iteration = i.iteration,
        output = i.output,
        run_output = i.run_output,
        error = i.error,
        reason = i.reason,
        due_at = case
            when i.goes_on then at.now
            when i.status = 'ready' then at.now + i.delay * interval '1s'
            else e.due_at end,
        wake_at_children = case when i.is_suspension and not i.goes_on then i.wake_at_children end,
        needs_cancel = false,
        lease_expires_at = null,
        finished_at = case when i.is_end then at.now end,
        active_children_count = i.children,
        message_count = i.told,
        close_status = case when not i.is_end then 'idle' when i.children = 0 then 'closed' else 'ready' end,
        closed_at = case when i.is_end and i.children = 0 then at.now end,
        updated_at = at.now
    from judged as i
        cross join at
    where e.id = any(array[i.id])
        and e.fence = any(array[i.fence])
    returning e.id, e.queue, e.status, e.due_at <= at.now as is_due
),
ended as (
    select t.parent_id, t.failed from turns as t where t.parent_id not in (select id from turns)
),
/*include tell_parents*/
select array(select id::text from settled), array(
    select queue from resumed where status = 'ready'
    union
    select queue from settled where status = 'ready' and is_due);

-- name: forget_history
-- What workflows that continue as new leave behind: their history, and the messages they have read but for those they
-- keep. Of what is gone the id is remembered, in a row without a payload whose number is below zero, where no replay
-- reads: from -2^31 on what is remembered for good, from -2^30 on what is for a while and then deleted by this statement;
-- the lower 30 bits are the number that it had. Approvals that nobody has decided on in time are withdrawn: nobody
-- waits for them any more. The transaction holds the workflows. Locks what it writes. Index: the primary keys,
-- approvals_key.
with at as materialized (select /*schema*/clock_now() as now),
turns as materialized (
    select * from unnest(%(id)s::uuid[], %(seen_messages)s::integer[]) as i (id, seen_messages)
),
met as materialized (
    select m.execution_id as id, m.number,
        case
            when m.message_id is null or m.kind = 'cancel' then null
            when starts_with(m.message_id, %(given)s::text) then m.number | -2147483648
            when m.at > at.now - %(remembered_for)s::float8 * interval '1s' then m.number | -1073741824 end as put_at
    from turns as t
        join /*schema*/messages as m on m.execution_id = any(array[t.id]) and m.number between 1 and t.seen_messages
        cross join at
    where not exists (
        select 1 from unnest(%(kept_id)s::uuid[], %(kept_number)s::integer[]) as k (id, number)
        where k.id = m.execution_id and k.number = m.number
    )
),
remembered as (
    update /*schema*/messages as m
    set number = g.put_at, payload = ''
    from met as g
    where m.execution_id = any(array[g.id]) and m.number = any(array[g.number]) and g.put_at is not null
),
messages_gone as (
    delete from /*schema*/messages as m
    using met as g
    where m.execution_id = any(array[g.id]) and m.number = any(array[g.number]) and g.put_at is null
),
ids_gone as (
    delete from /*schema*/messages as m
    using turns as t
        cross join at
    where m.execution_id = any(array[t.id])
        and m.number between -1073741824 and -1
        and m.at <= at.now - %(remembered_for)s::float8 * interval '1s'
),
withdrawn as (
    update /*schema*/approvals as a
    set status = 'withdrawn'
    from turns as t
        cross join at
    where a.execution_id = any(array[t.id])
        and a.status = 'pending'
        and (a.expires_at is null or a.expires_at > at.now)
),
entries_gone as (
    delete from /*schema*/history as h using turns as t where h.execution_id = any(array[t.id])
)
select count(*) from turns;

-- name: histories
-- The entries and messages of workflows after what is known of them, by place, kind of row and number.
-- Index: the primary keys, one probe for each, which `offset 0` keeps.
select i.place - 1, false, h.seq, h.kind, h.key, h.output, h.error, h.detail, h.at
from unnest(%(id)s::uuid[], %(seq)s::integer[]) with ordinality as i (id, seq, place)
cross join lateral (
    select n.seq, n.kind, n.key, n.output, n.error, n.detail, n.at
    from /*schema*/history as n
    where n.execution_id = i.id and n.seq > i.seq
    offset 0
) as h
union all
select i.place - 1, true, m.number, m.kind, m.name, m.payload, m.message_id, null, m.at
from unnest(%(id)s::uuid[], %(number)s::integer[]) with ordinality as i (id, number, place)
cross join lateral (
    select n.number, n.kind, n.name, n.payload, n.message_id, n.at
    from /*schema*/messages as n
    where n.execution_id = i.id and n.number > i.number
    offset 0
) as m
order by 1, 2, 3;

-- name: tally_children
-- How the children in ranges of child indexes stand, in the order of the ranges. Index: executions_children, one probe for
-- each range, which `offset 0` keeps.
select c.finished, c.failed, c.open_ids
from unnest(%(first)s::integer[], %(end)s::integer[]) with ordinality as r (first, past, place)
cross join lateral (
    select count(n.finished_at) as finished,
        count(n.finished_at) filter (where n.status <> 'completed') as failed,
        coalesce(array_agg(n.id::text order by n.child_index) filter (where n.finished_at is null), '{}') as open_ids
    from (
        select e.id, e.child_index, e.status, e.finished_at
        from /*schema*/executions as e
        where e.parent_id = %(parent)s::uuid and e.child_index >= r.first and e.child_index < r.past
        offset 0
    ) as n
) as c
order by r.place;

-- name: children_between
-- The children of one parent in a range of child indexes, in order; all, or those that ended without a result.
-- Index: executions_children.
select e.parent_id, e.child_index, e.id, e.task_name, e.status, e.output, e.error, e.is_finalize
from /*schema*/executions as e
where e.parent_id = %(parent)s::uuid
    and e.child_index >= %(first)s::integer
    and e.child_index < %(end)s::integer
    and (not %(only_failed)s::boolean or e.finished_at is not null and e.status <> 'completed')
order by e.child_index
limit %(limit)s::bigint;

-- name: published_values
-- What a workflow has published, by key; null means all keys but those that begin with '#'. Index: the primary key of
-- published.
select p.key, p.value, p.version, p.at
from /*schema*/published as p
where p.execution_id = %(id)s::uuid
    and case when %(keys)s::text[] is null then left(p.key, 1) <> '#' else p.key = any(%(keys)s::text[]) end
order by p.key collate "C";

-- name: stored_chunks
-- The next chunks of a workflow's output. Index: the primary key of chunks.
select c.number, c.payload, c.at
from /*schema*/chunks as c
where c.execution_id = %(id)s::uuid
    and c.number > %(after)s::integer
order by c.number
limit %(limit)s::bigint;

-- name: defects
-- Records that break an invariant, in one snapshot. Reads the whole table: for people, not for a loop.
with active as (
    select c.parent_id, count(*)::integer as children
    from /*schema*/executions as c
    where c.parent_id is not null and c.finished_at is null
    group by c.parent_id
),
found as (
    select e.id, 'count' as kind,
        format('active_children_count is %%s, %%s children are unfinished', e.active_children_count,
            coalesce(a.children, 0)) as detail,
        true as is_mendable
    from /*schema*/executions as e left join active as a on a.parent_id = e.id
    where e.active_children_count <> coalesce(a.children, 0)
    union all
    select e.id, 'orphan', format('its parent %%s is gone', e.parent_id), true
    from /*schema*/executions as e
    where e.parent_id is not null
        and e.finished_at is null
        and not exists (select 1 from /*schema*/executions as p where p.id = e.parent_id)
    union all
    select e.id, 'stranded', 'it waits for children, and none is unfinished', true
    from /*schema*/executions as e left join active as a on a.parent_id = e.id
    where e.status in ('waiting_for_children', 'waiting_for_finalize')
        and e.active_children_count = 0
        and a.children is null
    union all
    select e.id, 'stranded',
        format('it waits for children until %%s are unfinished, and %%s are', e.wake_at_children,
            coalesce(a.children, 0)),
        true
    from /*schema*/executions as e left join active as a on a.parent_id = e.id
    where e.status = 'waiting' and coalesce(a.children, 0) <= e.wake_at_children
    union all
    select e.id, 'unclosed', 'it has finished and is outside the close pipeline', true
    from /*schema*/executions as e
    where e.finished_at is not null and e.close_status = 'idle'
    union all
    select e.id, 'contradiction',
        format('its status is %%s, and finished_at is %%s', e.status, coalesce(e.finished_at::text, 'null')), false
    from /*schema*/executions as e
    where (e.finished_at is not null) <> (e.status in (
        'completed', 'failed', 'timed_out', 'finalize_failed', 'cancelled'))
    union all
    select e.id, 'contradiction',
        format('attempts are %%s of %%s, deliveries %%s of %%s', e.attempts, e.max_attempts, e.deliveries,
            e.max_deliveries),
        false
    from /*schema*/executions as e
    where e.attempts not between 0 and e.max_attempts or e.deliveries not between 0 and e.max_deliveries
    union all
    select e.id, 'spoiled', p.name || ' is not JSON', false
    from /*schema*/executions as e
        cross join lateral (values
            ('input', e.input), ('output', e.output), ('run_output', e.run_output), ('error', e.error),
            ('progress', e.progress), ('retry', e.retry), ('on_complete', e.on_complete)
        ) as p (name, payload)
    where p.payload is not null
        and not /*schema*/is_payload(p.payload)
)
select f.id, f.kind, f.detail, f.is_mendable
from found as f
where %(ids)s::uuid[] is null or f.id = any(%(ids)s::uuid[])
order by f.id, f.kind
limit %(limit)s::bigint;

-- name: mend
-- Rebuild counts, let stranded parents go on, cancel orphans, put the unclosed into the close pipeline.
-- Locks what it mends, in the order of `tell_parents`. Index: the primary key, executions_children.
with at as materialized (select /*schema*/clock_now() as now),
held as materialized (
    select e.id
    from /*schema*/executions as e
    where e.id = any(%(ids)s::uuid[])
    order by e.depth desc, e.id
    for no key update
)
update /*schema*/executions as e
set active_children_count = t.children,
    status = case
        when t.is_orphan then 'cancelled'
        when t.is_stranded then 'ready'
        else e.status end,
    fence = case when t.is_orphan then e.fence + 1 else e.fence end,
    due_at = case when t.is_stranded then at.now else e.due_at end,
    wake_at_children = case when not t.is_stranded then e.wake_at_children end,
    finished_at = case when t.is_orphan then at.now else e.finished_at end,
    lease_expires_at = case when t.is_orphan then null else e.lease_expires_at end,
    needs_cancel = e.needs_cancel or (t.is_orphan and e.status = 'running'),
    error = case when t.is_orphan then %(error)s::text else e.error end,
    reason = case when t.is_orphan then 'orphan' else e.reason end,
    close_status = case
        when t.is_orphan or e.finished_at is not null
            then case
                when t.children > 0 then case when e.close_status = 'closing' then 'closing' else 'ready' end
                else 'closed' end
        else 'idle' end,
    closed_at = case
        when (t.is_orphan or e.finished_at is not null) and t.children = 0 then coalesce(e.closed_at, at.now) end,
    close_lease_expires_at = case when t.children > 0 then e.close_lease_expires_at end,
    updated_at = at.now
from at, held as h
    cross join lateral (
        select count(*)::integer as children
        from /*schema*/executions as c
        where c.parent_id = h.id and c.finished_at is null
    ) as n
    cross join lateral (
        select n.children,
            x.finished_at is null
                and x.parent_id is not null
                and not exists (select 1 from /*schema*/executions as p where p.id = x.parent_id) as is_orphan,
            x.status <> 'ready' and /*schema*/goes_on(x.status, x.wake_at_children, n.children, 0) is true as is_stranded
        from /*schema*/executions as x
        where x.id = h.id
    ) as t
where e.id = h.id
returning e.id;

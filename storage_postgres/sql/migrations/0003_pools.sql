-- Pools: queues with an exact limit over all executors, per-key limits and order, and rates.
--
-- Whoever claims from a pool holds its row of `pools`, so at any time at most one claim moves executions of it into
-- `running`; leaving `running` needs no lock, because that only lowers the count. What the claim knows of keys, it alone
-- writes: `pool_lanes` has a row for each key that has due work and room for it. All others only append to `pool_marks`
-- that a key is worth a look from some time on; the claim turns due marks into lanes. So enqueueing into one key never
-- waits for another transaction, and a mark becomes visible together with the execution it stands for.

drop index /*schema*/executions_ready;
create index executions_ready on /*schema*/executions (queue, priority, due_at, id)
    where status = 'ready' and not is_pooled;
create index executions_pooled on /*schema*/executions (queue, priority, due_at, id)
    where status = 'ready' and is_pooled and serial_key is null;
-- What has started before stands apart: it keeps its place at the head of its key.
create index executions_keyed on /*schema*/executions (queue, serial_key, due_at, id)
    where status = 'ready' and serial_key is not null and started_at is null;
create index executions_keyed_again on /*schema*/executions (queue, serial_key, due_at, id)
    where status = 'ready' and serial_key is not null and started_at is not null;
create index executions_pool_running on /*schema*/executions (queue, serial_key)
    where status = 'running' and is_pooled;

create table /*schema*/pools (
    name text primary key,
    max_parallelism integer check (max_parallelism >= 0),
    max_per_key integer check (max_per_key >= 1),
    keep_order boolean not null,
    rate_tokens integer check (rate_tokens >= 1),
    rate_period double precision check (rate_period > 0),
    is_paused boolean not null,
    -- The starts that may still count towards the rate, the later ones last: never more than its tokens start in any
    -- period, also in the first one. A bucket that is full at the beginning lets through twice as many there.
    start_times timestamptz[] not null default '{}',
    start_counts bigint[] not null default '{}',
    updated_at timestamptz not null,
    constraint pools_rate check ((rate_tokens is null) = (rate_period is null))
) with (fillfactor = 50);

create table /*schema*/pool_lanes (
    pool text not null,
    serial_key text not null,
    turn_at timestamptz not null,
    primary key (pool, serial_key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- The keys that may be served, in the order of their turns; one that was served goes to the back.
create index pool_lanes_turn on /*schema*/pool_lanes (pool, turn_at, serial_key);

create table /*schema*/pool_marks (
    pool text not null,
    serial_key text not null,
    due_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.05);
create index pool_marks_due on /*schema*/pool_marks (pool, due_at);

create function /*schema*/mark_key() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'UPDATE' and (
        (old.status = new.status and old.due_at = new.due_at)
        or (old.status <> 'running' and new.status <> 'ready' and (old.status <> 'ready' or old.started_at is null))
    ) then
        return null;
    end if;
    if new.status = 'ready' then
        insert into /*schema*/pool_marks (pool, serial_key, due_at) values (new.queue, new.serial_key, new.due_at);
    end if;
    if tg_op = 'UPDATE' and (new.status <> 'ready' or new.due_at > new.updated_at) then
        insert into /*schema*/pool_marks (pool, serial_key, due_at) values (new.queue, new.serial_key, new.updated_at);
    end if;
    return null;
end
$$;

-- A trigger, so that every way into `ready` and out of `running` leaves its mark, whichever statement goes it.
-- Executions without a key, and those that start, pay for the test of the condition alone; and it is short, because
-- every statement reads it anew.
create trigger mark_new_key after insert on /*schema*/executions for each row
    when (new.serial_key is not null)
    execute function /*schema*/mark_key();
create trigger mark_key after update of status, due_at on /*schema*/executions for each row
    when (new.serial_key is not null and new.lease_expires_at is null)
    execute function /*schema*/mark_key();

-- Whether a claim would find something in a pool, seen without a lock: what is idle or paused is never locked.
create function /*schema*/has_pooled_work(pool_name text, moment timestamptz) returns boolean
language sql stable
as $$
    select exists (
            select 1
            from /*schema*/pools as p
            where p.name = pool_name and not p.is_paused and p.max_parallelism is distinct from 0)
        and (
            exists (select 1 from /*schema*/pool_lanes as l where l.pool = pool_name)
            or exists (select 1 from /*schema*/pool_marks as m where m.pool = pool_name and m.due_at <= moment)
            or exists (
                select 1
                from generate_series(-4, 4) as level (priority)
                cross join lateral (
                    select 1
                    from /*schema*/executions as e
                    where e.status = 'ready' and e.is_pooled and e.serial_key is null
                        and e.queue = pool_name and e.priority = level.priority and e.due_at <= moment
                    order by e.due_at, e.id
                    limit 1
                ) as due))
$$;

-- A turn behind those that wait in a pool, so that keys alternate also while the clock stands still. What is far ahead was
-- written before the clock was set back: nothing has to be behind that.
create function /*schema*/next_turn(pool_name text, moment timestamptz) returns timestamptz
language sql stable
as $$
    select max(l.turn_at) + interval '1 microsecond'
    from /*schema*/pool_lanes as l
    where l.pool = pool_name and l.turn_at < moment + interval '1 minute'
$$;

-- Turn due marks of a pool into lanes; the caller holds the pool. True when more may be due.
create function /*schema*/absorb_marks(pool_name text, moment timestamptz) returns boolean
language plpgsql volatile
as $$
declare
    most constant integer := 10000;
    next_at constant timestamptz := /*schema*/next_turn(pool_name, moment);
    mark_count integer;
begin
    with taken as (
        delete from /*schema*/pool_marks as m
        where m.ctid = any(array(
            select d.ctid
            from /*schema*/pool_marks as d
            where d.pool = pool_name and d.due_at <= moment
            order by d.due_at
            limit most
        ))
        returning m.serial_key as marked_key, m.due_at as marked_at
    ),
    added as (
        insert into /*schema*/pool_lanes (pool, serial_key, turn_at)
        select pool_name, t.marked_key, greatest(min(t.marked_at), next_at)
        from taken as t
        group by t.marked_key
        having exists (
            select 1
            from /*schema*/executions as e
            where e.status = 'ready' and e.queue = pool_name and e.serial_key = t.marked_key and e.started_at is null
        ) or exists (
            select 1
            from /*schema*/executions as e
            where e.status = 'ready' and e.queue = pool_name and e.serial_key = t.marked_key
                and e.started_at is not null
        )
        on conflict do nothing
    )
    select count(*) into mark_count from taken;
    return mark_count = most;
end
$$;

-- After a claim: a lane that was looked at stays while its key has due work and room for it, behind the others if it was
-- served. One that goes leaves a mark at the time of the key's next work, unless that is there: its own mark may have
-- been absorbed under a clock that has been set back since. The caller holds the pool.
create function /*schema*/turn_lanes(
    pool_name text, moment timestamptz, looked_at text[], served_keys text[], most_per_key integer, keeps_order boolean
) returns void
language sql volatile
as $$
    with seen as materialized (
        select k.serial_key, lane.row_id,
            coalesce(most_per_key <= (
                select count(*)
                from /*schema*/executions as r
                where r.status = 'running' and r.is_pooled and r.queue = pool_name and r.serial_key = k.serial_key
            ) + (
                select count(*)
                from /*schema*/executions as b
                where keeps_order and b.status = 'ready' and b.queue = pool_name and b.serial_key = k.serial_key
                    and b.started_at is not null and b.due_at > moment
            ), false) as is_full,
            exists (
                select 1
                from /*schema*/executions as e
                where e.status = 'ready' and e.queue = pool_name and e.serial_key = k.serial_key
                    and e.started_at is null and e.due_at <= moment
            ) or exists (
                select 1
                from /*schema*/executions as e
                where e.status = 'ready' and e.queue = pool_name and e.serial_key = k.serial_key
                    and e.started_at is not null and e.due_at <= moment
            ) as is_due
        from unnest(looked_at) as k (serial_key)
        cross join lateral (
            select l.ctid as row_id
            from /*schema*/pool_lanes as l
            where l.pool = pool_name and l.serial_key = k.serial_key
            offset 0
        ) as lane
    ),
    gone as (
        delete from /*schema*/pool_lanes as l
        where l.ctid = any(array(select s.row_id from seen as s where s.is_full or not s.is_due))
        returning l.serial_key
    ),
    turned as (
        update /*schema*/pool_lanes as l
        set turn_at = greatest(moment, (select /*schema*/next_turn(pool_name, moment)))
        where l.ctid = any(array(
            select s.row_id
            from seen as s
            where s.is_due and not s.is_full and s.serial_key = any(served_keys)))
    )
    insert into /*schema*/pool_marks (pool, serial_key, due_at)
    select pool_name, g.serial_key, next.due_at
    from gone as g
    cross join lateral (
        select least((
            select e.due_at
            from /*schema*/executions as e
            where e.status = 'ready' and e.queue = pool_name and e.serial_key = g.serial_key
                and e.started_at is null and e.due_at > moment
            order by e.due_at
            limit 1
        ), (
            select e.due_at
            from /*schema*/executions as e
            where e.status = 'ready' and e.queue = pool_name and e.serial_key = g.serial_key
                and e.started_at is not null and e.due_at > moment
            order by e.due_at
            limit 1
        )) as due_at
    ) as next
    where next.due_at is not null
        and not exists (
            select 1
            from /*schema*/pool_marks as m
            where m.pool = pool_name and m.due_at = next.due_at and m.serial_key = g.serial_key
        )
$$;

-- The rows that a claim takes from one pool, locked: at most `room`. Without keys by priority, due time and id; keyed
-- work counts as priority 0 and stands at its lane's turn, in the order of its key, at most `share` of a key. What is due
-- first in a key goes first: where its name is unknown here, or somebody holds its row, the claim takes nothing behind it.
-- Keys without a limit have no such order, and what cannot be taken is passed. Gives also the keys that are served, their
-- lanes, and the keys whose lanes have nothing to give and no reason to stay. The caller holds the pool, so nobody else
-- writes lanes and their ctids hold.
create function /*schema*/pick_pooled(
    this /*schema*/pools, moment timestamptz, known_names text[], known_version smallint, room bigint, share bigint,
    out row_ids tid[], out served_keys text[], out served_lanes tid[], out spent_keys text[]
)
language plpgsql volatile
as $$
begin
    with seen as materialized (
        select l.ctid as lane_id, l.serial_key, l.turn_at, head.row_id, head.is_new, head.due_at, head.id
        from /*schema*/pool_lanes as l
        cross join lateral (
            select case when this.max_per_key is null then 0 else (
                select count(*)
                from /*schema*/executions as r
                where r.status = 'running' and r.is_pooled and r.queue = this.name and r.serial_key = l.serial_key
            ) + (
                select count(*)
                from /*schema*/executions as b
                where this.keep_order and b.status = 'ready' and b.queue = this.name
                    and b.serial_key = l.serial_key and b.started_at is not null and b.due_at > moment
            ) end as executions
        ) as busy
        cross join lateral (
            select greatest(least(share, this.max_per_key - busy.executions), 0) as executions
        ) as free
        left join lateral (
            select h.row_id, h.is_new, h.due_at, h.id
            from (
                select d.is_new, d.due_at, d.id, own.row_id,
                    bool_and(own.row_id is not null) over (order by d.is_new, d.due_at, d.id) as is_next
                from (
                    select q.*
                    from (
                        select again.*, false as is_new
                        from (
                            select e.due_at, e.id, e.task_name, e.record_version
                            from /*schema*/executions as e
                            where e.status = 'ready' and e.queue = this.name and e.serial_key = l.serial_key
                                and e.started_at is not null and e.due_at <= moment
                                and (this.max_per_key is not null
                                    or e.task_name = any(known_names) and e.record_version <= known_version)
                            order by e.due_at, e.id
                            limit free.executions
                        ) as again
                        union all
                        select first.*, this.keep_order
                        from (
                            select e.due_at, e.id, e.task_name, e.record_version
                            from /*schema*/executions as e
                            where e.status = 'ready' and e.queue = this.name and e.serial_key = l.serial_key
                                and e.started_at is null and e.due_at <= moment
                                and (this.max_per_key is not null
                                    or e.task_name = any(known_names) and e.record_version <= known_version)
                            order by e.due_at, e.id
                            limit free.executions
                        ) as first
                    ) as q
                    order by q.is_new, q.due_at, q.id
                    limit free.executions
                ) as d
                left join lateral (
                    select e.ctid as row_id
                    from /*schema*/executions as e
                    where e.id = d.id and e.status = 'ready' and e.due_at <= moment
                        and d.task_name = any(known_names) and d.record_version <= known_version
                    for update skip locked
                ) as own on true
            ) as h
            where h.row_id is not null and (h.is_next or this.max_per_key is null)
            order by h.is_new, h.due_at, h.id
        ) as head on true
        where l.pool = this.name
            -- A lane whose next work cannot be taken here is passed over and left to others.
            and (head.row_id is not null or this.max_per_key <= busy.executions or not (
                exists (
                    select 1
                    from /*schema*/executions as e
                    where e.status = 'ready' and e.queue = this.name and e.serial_key = l.serial_key
                        and e.started_at is null and e.due_at <= moment
                ) or exists (
                    select 1
                    from /*schema*/executions as e
                    where e.status = 'ready' and e.queue = this.name and e.serial_key = l.serial_key
                        and e.started_at is not null and e.due_at <= moment
                )))
        order by l.turn_at, l.serial_key, head.is_new, head.due_at, head.id
        limit room
    ),
    keyless as materialized (
        select due.*
        from generate_series(4, -4, -1) as level (priority)
        cross join lateral (
            select e.ctid as row_id, e.priority, e.due_at, e.id
            from /*schema*/executions as e
            where e.status = 'ready' and e.is_pooled and e.serial_key is null
                and e.queue = this.name and e.priority = level.priority and e.due_at <= moment
                and e.task_name = any(known_names) and e.record_version <= known_version
            order by e.due_at, e.id
            limit room
            for update skip locked
        ) as due
        limit room
    ),
    picked as materialized (
        select c.row_id, c.serial_key, c.lane_id
        from (
            select s.row_id, s.serial_key, s.lane_id, 0 as priority, s.turn_at as rank_at, s.is_new, s.due_at, s.id
            from seen as s
            where s.row_id is not null
            union all
            select k.row_id, null, null, k.priority, k.due_at, false, k.due_at, k.id from keyless as k
        ) as c
        order by c.priority desc, c.rank_at, c.serial_key nulls first, c.is_new, c.due_at, c.id
        limit room
    )
    select
        array(select p.row_id from picked as p),
        array(select distinct p.serial_key from picked as p where p.serial_key is not null),
        array(select distinct p.lane_id from picked as p where p.lane_id is not null),
        array(select s.serial_key from seen as s where s.row_id is null)
    into row_ids, served_keys, served_lanes, spent_keys;
end
$$;

-- How many may start. A start counts until a whole period has passed.
create function /*schema*/rate_room(this /*schema*/pools, moment timestamptz) returns bigint
language sql immutable
as $$
    select greatest(this.rate_tokens - coalesce(sum(u.count), 0), 0)::bigint
    from unnest(this.start_times, this.start_counts) as u (at, count)
    where u.at > moment - this.rate_period * interval '1 second'
$$;

-- When one may start: the moment given, if one may then.
create function /*schema*/rate_moment(this /*schema*/pools, moment timestamptz) returns timestamptz
language sql immutable
as $$
    select case when coalesce(sum(s.count), 0) < this.rate_tokens then moment
        else min(s.at) filter (where s.later < this.rate_tokens) + this.rate_period * interval '1 second' end
    from (
        select u.at, u.count, sum(u.count) over (order by u.at desc) - u.count as later
        from unnest(this.start_times, this.start_counts) as u (at, count)
        where u.at > moment - this.rate_period * interval '1 second'
    ) as s
$$;

-- The starts that may still count, with new ones. Those of one 64th of a period are kept as one, at the last of their
-- moments, so a row never holds many more than 64, and a start counts a 64th of a period too long at most.
create function /*schema*/rate_starts(this /*schema*/pools, moment timestamptz, new_count bigint)
returns table (times timestamptz[], counts bigint[])
language sql immutable
as $$
    select array_agg(s.at order by s.at), array_agg(s.count order by s.at)
    from (
        select max(e.at) as at, sum(e.count)::bigint as count
        from (
            select u.at, u.count
            from unnest(this.start_times, this.start_counts) as u (at, count)
            where u.at > moment - this.rate_period * interval '1 second'
            union all
            select moment, new_count
        ) as e
        group by floor(extract(epoch from e.at)::double precision * 64 / this.rate_period)
    ) as s
$$;

-- Give ready executions of pools to one executor, pool by pool in the order given, at most `room_left` in all. A pool that
-- another claim holds is skipped. Each step is a statement of its own: only one that begins when the pool's row is held
-- sees all that earlier holders have set running. A row without an id is no execution: its `delay` is the seconds after
-- which a claim may find more than what is running now holds back; no such row: nothing is held back by time.
-- Where no key waits for its turn, it looks at what has no key and at nothing else: the steps that order keys cost a claim
-- a quarter of a millisecond even where there are none. A key that is marked in the meantime is found by the next claim.
create function /*schema*/claim_pools(
    pool_names text[], known_names text[], known_version smallint, new_executor_id text, new_lease double precision,
    room_left bigint
) returns setof /*schema*/executions
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    pool_name text;
    this /*schema*/pools;
    moment timestamptz;
    room bigint;
    running_count bigint;
    lane_count bigint;
    is_more boolean;
    picked record;
    taken_count bigint;
    soonest double precision;
    nothing /*schema*/executions;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'pools are claimed in read committed transactions only'
            using errcode = 'invalid_transaction_state';
    end if;
    foreach pool_name in array pool_names loop
        exit when room_left <= 0;
        continue when not /*schema*/has_pooled_work(pool_name, /*schema*/clock_now());
        select p.* into this from /*schema*/pools as p where p.name = pool_name for update skip locked;
        if not found then
            soonest := least(soonest, 0.02);
            continue;
        end if;
        moment := /*schema*/clock_now();
        room := case when this.is_paused then 0 else room_left end;
        if this.max_parallelism is not null then
            select count(*) into running_count
            from (
                select 1
                from /*schema*/executions as r
                where r.status = 'running' and r.is_pooled and r.queue = pool_name
                limit this.max_parallelism
            ) as r;
            room := least(room, this.max_parallelism - running_count);
        end if;
        continue when room <= 0;
        if this.rate_tokens is not null then
            room := least(room, /*schema*/rate_room(this, moment));
            if room <= 0 then
                soonest := least(soonest, extract(epoch from /*schema*/rate_moment(this, moment) - moment));
                continue;
            end if;
        end if;
        if exists (select 1 from /*schema*/pool_lanes as l where l.pool = pool_name)
            or exists (select 1 from /*schema*/pool_marks as m where m.pool = pool_name and m.due_at <= moment)
        then
            is_more := /*schema*/absorb_marks(pool_name, moment);
            select count(*) into lane_count
            from (select 1 from /*schema*/pool_lanes as l where l.pool = pool_name limit room) as l;
            select p.* into picked
            from /*schema*/pick_pooled(
                this, moment, known_names, known_version, room, (room + lane_count - 1) / greatest(lane_count, 1)) as p;
        else
            is_more := false;
            select array(
                select due.row_id
                from generate_series(4, -4, -1) as level (priority)
                cross join lateral (
                    select e.ctid as row_id
                    from /*schema*/executions as e
                    where e.status = 'ready' and e.is_pooled and e.serial_key is null
                        and e.queue = pool_name and e.priority = level.priority and e.due_at <= moment
                        and e.task_name = any(known_names) and e.record_version <= known_version
                    order by e.due_at, e.id
                    limit room
                    for update skip locked
                ) as due
                limit room
            ) as row_ids, '{}'::text[] as served_keys, '{}'::tid[] as served_lanes, '{}'::text[] as spent_keys
            into picked;
        end if;
        return query
            update /*schema*/executions as e
            set status = 'running',
                fence = e.fence + 1,
                attempts = e.attempts + 1,
                -- A suspect, as in `claim`.
                deliveries = e.deliveries + case
                    when e.deliveries >= 2 or e.deliveries + 1 >= e.max_deliveries then 0 else 1 end,
                executor_id = new_executor_id,
                reason = case when e.deliveries >= 2 or e.deliveries + 1 >= e.max_deliveries then 'unstarted' end,
                started_at = moment,
                lease_expires_at = moment + new_lease * interval '1 second',
                updated_at = moment
            where e.ctid = any(picked.row_ids)
            returning e.*;
        get diagnostics taken_count = row_count;
        room_left := room_left - taken_count;
        if this.max_per_key = 1 then
            -- Their one execution runs now; its end will mark them.
            delete from /*schema*/pool_lanes as l where l.ctid = any(picked.served_lanes);
        elsif cardinality(picked.served_keys) > 0 then
            perform /*schema*/turn_lanes(
                pool_name, moment, picked.served_keys, picked.served_keys, this.max_per_key, this.keep_order);
        end if;
        if cardinality(picked.spent_keys) > 0 then
            perform /*schema*/turn_lanes(
                pool_name, moment, picked.spent_keys, '{}', this.max_per_key, this.keep_order);
        end if;
        -- More lanes than were looked at, or more in a key than its share: at once again. Each such claim has taken
        -- something or cleared lanes away, so this comes to an end.
        is_more := is_more or taken_count < room and (
            cardinality(picked.spent_keys) > 0 and cardinality(picked.spent_keys) + taken_count >= room
            or cardinality(picked.served_keys) > 0 and this.max_per_key is distinct from 1
                and exists (select 1 from /*schema*/pool_lanes as l where l.pool = pool_name));
        if this.rate_tokens is not null then
            if taken_count > 0 then
                update /*schema*/pools as p
                set (start_times, start_counts) = (
                    select s.times, s.counts from /*schema*/rate_starts(this, moment, taken_count) as s
                )
                where p.name = pool_name
                returning p.* into this;
            end if;
            if taken_count = room then
                soonest := least(soonest, extract(epoch from /*schema*/rate_moment(this, moment) - moment));
            end if;
        end if;
        if is_more then
            soonest := 0;
        end if;
    end loop;
    if soonest is not null then
        nothing.delay := soonest;
        return next nothing;
    end if;
end
$$;

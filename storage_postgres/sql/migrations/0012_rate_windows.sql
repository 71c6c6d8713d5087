-- A rate as a window that slides: never more than its tokens start in any period, also in the first one. A bucket that
-- is full at the beginning lets through twice as many there.

-- The starts of a pool with a rate that may still count, the later ones last.
alter table /*schema*/pools
    drop column tokens,
    drop column tokens_at,
    add column start_times timestamptz[] not null default '{}',
    add column start_counts bigint[] not null default '{}';

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
create or replace function /*schema*/claim_pools(
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
                deliveries = e.deliveries + 1,
                executor_id = new_executor_id,
                reason = null,
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

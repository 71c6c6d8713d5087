-- fragment: tell_parents
-- Lower the counts of the parents of `ended (parent_id)`; the parent whose last child this is becomes ready for its
-- next phase, and one that was only kept open by its children is closed. Needs the CTEs `at` and `ended`.
-- Locks: every statement that waits for rows takes those without active children first, by id, then those with some,
-- deepest first, then by id. So two of them never wait for each other in a ring. Here only parents are left to lock.
-- Index: the primary key. The arrays give the planner one estimate whatever the statistics say; without them it reads
-- the table, or reads the parents once for each of them.
counted as materialized (
    select ended.parent_id, count(*)::integer as children
    from ended
    where ended.parent_id is not null
    group by ended.parent_id
),
parents as materialized (
    select p.id
    from /*schema*/executions as p
    where p.id = any(array(select counted.parent_id from counted))
    order by p.depth desc, p.id
    for update
),
resumed as (
    update /*schema*/executions as p
    set active_children_count = p.active_children_count - told.children,
        status = case
            when p.active_children_count = told.children
                and p.status in ('waiting_for_children', 'waiting_for_finalize') then 'ready'
            else p.status end,
        due_at = case
            when p.active_children_count = told.children
                and p.status in ('waiting_for_children', 'waiting_for_finalize') then (select now from at)
            else p.due_at end,
        close_status = case
            when p.active_children_count = told.children and p.close_status = 'closing' then 'closed'
            else p.close_status end,
        closed_at = case
            when p.active_children_count = told.children and p.close_status = 'closing' then (select now from at)
            else p.closed_at end,
        close_lease_expires_at = case
            when p.active_children_count = told.children then null
            else p.close_lease_expires_at end,
        updated_at = (select now from at)
    from unnest(
        array(select c.parent_id from counted as c),
        array(select c.children from counted as c)
    ) as told (parent_id, children)
    where p.id = told.parent_id
        and p.id = any(array(select parents.id from parents))
    returning p.id, p.queue, p.status
)

-- fragment: tell_parents
-- Lower the counts of the parents of `ended (parent_id)`; the parent whose last child this is becomes ready for its
-- next phase, and one that was only kept open by its children is closed. Needs the CTEs `at` and `ended`.
-- Locks parents in id order, after their children: every statement that locks both keeps to that order.
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
    order by p.id
    for update
),
resumed as (
    update /*schema*/executions as p
    set active_children_count = p.active_children_count - counted.children,
        status = case
            when p.active_children_count = counted.children
                and p.status in ('waiting_for_children', 'waiting_for_finalize') then 'ready'
            else p.status end,
        due_at = case
            when p.active_children_count = counted.children
                and p.status in ('waiting_for_children', 'waiting_for_finalize') then (select now from at)
            else p.due_at end,
        close_status = case
            when p.active_children_count = counted.children and p.close_status = 'closing' then 'closed'
            else p.close_status end,
        closed_at = case
            when p.active_children_count = counted.children and p.close_status = 'closing' then (select now from at)
            else p.closed_at end,
        close_lease_expires_at = case
            when p.active_children_count = counted.children then null
            else p.close_lease_expires_at end,
        updated_at = (select now from at)
    from counted
    where p.id = counted.parent_id
        and p.id = any(array(select parents.id from parents))
    returning p.id, p.queue, p.status
)

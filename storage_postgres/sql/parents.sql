-- fragment: tell_parents
-- Lower the counts of the parents of `ended (parent_id)`; the parent whose last child this is becomes ready for its
-- next phase, and one that was only kept open by its children is closed. Needs the CTEs `at` and `ended`.
-- Locks nothing new: the statement has locked the parents.
--
-- The order of locks. A statement that waits for rows locks all it will write, children and parents alike, in one pass:
-- deepest first, then by id. Depth and id never change, so no two statements wait for each other in a ring. A statement
-- that takes rows as it finds them skips what is locked, and never waits.
--
-- Index: the primary key. Here and elsewhere `= any(array[x])` is an equality that can only be looked up: one probe of the
-- index for each row, in the order of the rows, whatever the planner believes. As `= x` it may become a hash join that
-- reads the table, and locks in the order in which it finds the rows.
counted as materialized (
    select ended.parent_id, count(*)::integer as children
    from ended
    where ended.parent_id is not null
    group by ended.parent_id
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
                and p.status in ('waiting_for_children', 'waiting_for_finalize') then at.now
            else p.due_at end,
        close_status = case
            when p.active_children_count = told.children and p.close_status = 'closing' then 'closed'
            else p.close_status end,
        closed_at = case
            when p.active_children_count = told.children and p.close_status = 'closing' then at.now
            else p.closed_at end,
        close_lease_expires_at = case
            when p.active_children_count = told.children then null
            else p.close_lease_expires_at end,
        updated_at = at.now
    from counted as told cross join at
    where p.id = any(array[told.parent_id])
    returning p.id, p.queue, p.status
)

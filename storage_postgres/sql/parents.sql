-- fragment: tell_parents
-- Lower the counts of the parents of `ended (parent_id, failed)`, 1 for one that failed; the parent whose last child this
-- is becomes ready for its next phase, a suspended workflow when few enough are left or one has failed, and one that was
-- only kept open by its children is closed. A failure counts as a message, but none is stored: so the turn of a workflow
-- that is under way, and has not looked at its children since, does not suspend over it.
-- What a parent becomes follows from columns of its own row alone, so it holds for the row as the lock gives it. A parent
-- that the statement writes by itself cannot be told by it: a row is written once. Needs the CTEs `at` and `ended`.
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
    select parent_id, count(*)::int as children, sum(failed) as failed
    from ended
    group by parent_id
),
resumed as (
    update /*schema*/executions as p
    set (active_children_count, message_count, status, due_at, wake_at_children, close_status, closed_at,
            close_lease_expires_at, updated_at) = (
        select n.children,
            p.message_count + told.failed,
            case when n.goes_on then 'ready' else p.status end,
            case when n.goes_on then at.now else p.due_at end,
            case when n.goes_on is not true then p.wake_at_children end,
            case when n.closes then 'closed' else p.close_status end,
            case when n.closes then at.now else p.closed_at end,
            case when n.children > 0 then p.close_lease_expires_at end,
            at.now
        from (
            select c.children,
                /*schema*/goes_on(p.status, p.wake_at_children, c.children, told.failed) as goes_on,
                c.children = 0 and p.close_status = 'closing' as closes
            from (select p.active_children_count - told.children as children) as c
        ) as n
    )
    from counted as told cross join at
    where p.id = any(array[told.parent_id])
    returning p.id, p.queue, p.status
)

"""The contract itself: no case hides another, and each says what it promises."""

from __future__ import annotations

from collections import Counter

from durable.testing.contract import StorageContract


def cases() -> Counter[str]:
    return Counter(name for part in StorageContract.__mro__ for name in vars(part) if name.startswith("test_"))


def test_no_part_of_the_contract_hides_a_case_of_another() -> None:
    assert [name for name, count in cases().items() if count > 1] == []


def test_every_verb_of_the_seam_is_named_by_a_case() -> None:
    names = " ".join(cases())
    for verb in (
        "enqueue", "claim", "renew", "heartbeat", "settle", "settled", "children", "wake", "kept_wakeup",
        "expire_waits", "next_due", "next_start",
        "recover", "cancel", "cancel_all", "pick_up_cancelled", "redrive", "claim_closes",
        "close_trees", "recover_closes", "retire", "now", "get", "get_sleeping", "finished", "existing", "search",
        "counts", "announce", "withdraw", "executors", "defects", "mend", "hint", "lane", "migrate", "is_transient",
        "start_job",
        "append_events", "trigger_job", "end_job", "clear_job", "pause_job", "resume_job", "redrive_job", "take_turns",
        "get_jobs", "list_jobs", "count_jobs", "pending_events", "event_end", "forget_events",
        "emit", "take_notices", "renew_delivery", "delivered", "put_off_delivery", "undelivered", "discard_notices",
        "pool_tallies", "report_pools",
    ):  # fmt: skip
        assert f"_{verb}_" in names, verb

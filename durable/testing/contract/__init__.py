"""The promises of a storage as tests: subclass StorageContract, give the fixture `subject`, and run it with pytest.

    class TestMine(StorageContract):
        @pytest.fixture
        def subject(self) -> ContractSubject:
            return MySubject()

It needs pytest and pytest-asyncio with asyncio_mode = auto. Nothing is skipped: where storages differ by nature, the
subject says so and the case asserts what then holds. For readable failures, call
`pytest.register_assert_rewrite("durable.testing.contract")` in conftest.py before importing it.
"""

from durable.testing.contract.approvals import ApprovalContract
from durable.testing.contract.callbacks import CallbacksContract
from durable.testing.contract.cancel import CancelContract
from durable.testing.contract.children import ChildrenContract
from durable.testing.contract.claim import ClaimContract
from durable.testing.contract.claim_races import ClaimRacesContract
from durable.testing.contract.close import CloseContract
from durable.testing.contract.doctor import DoctorContract
from durable.testing.contract.duties import DutiesContract
from durable.testing.contract.enqueue import EnqueueContract
from durable.testing.contract.enqueue_races import EnqueueRacesContract
from durable.testing.contract.executors import ExecutorsContract
from durable.testing.contract.failed_timers import FailedTimerContract
from durable.testing.contract.finish import FinishContract
from durable.testing.contract.jobs_append import JobAppendContract
from durable.testing.contract.jobs_commit import JobCommitContract
from durable.testing.contract.jobs_delivery import JobDeliveryContract
from durable.testing.contract.jobs_end import JobEndContract
from durable.testing.contract.jobs_look import JobLookContract
from durable.testing.contract.jobs_pause import JobPauseContract
from durable.testing.contract.jobs_races import JobRacesContract
from durable.testing.contract.jobs_renew import JobRenewContract
from durable.testing.contract.jobs_retire import JobRetireContract
from durable.testing.contract.jobs_start import JobStartContract
from durable.testing.contract.jobs_take import JobTakeContract
from durable.testing.contract.jobs_trigger import JobTriggerContract
from durable.testing.contract.jobs_turn_races import JobTurnRacesContract
from durable.testing.contract.look import LookContract
from durable.testing.contract.next_due import NextDueContract
from durable.testing.contract.next_start import NextStartContract
from durable.testing.contract.noted import NotedContract
from durable.testing.contract.notices import NoticesContract
from durable.testing.contract.operations import OperationContract
from durable.testing.contract.parallel_timers import ParallelTimerContract
from durable.testing.contract.parity import ParityContract
from durable.testing.contract.pool_keys import PoolKeysContract
from durable.testing.contract.pool_races import PoolRacesContract
from durable.testing.contract.pool_reports import PoolReportsContract
from durable.testing.contract.pools import PoolsContract
from durable.testing.contract.recover import RecoverContract
from durable.testing.contract.redrive import RedriveContract
from durable.testing.contract.renew import RenewContract
from durable.testing.contract.retire import RetireContract
from durable.testing.contract.settle import SettleContract
from durable.testing.contract.subject import ContractSubject, Held
from durable.testing.contract.suspects import SuspectsContract
from durable.testing.contract.timers import TimerContract
from durable.testing.contract.tree_races import TreeRacesContract
from durable.testing.contract.wake import WakeContract
from durable.testing.contract.workflows_cancel import WorkflowCancelContract
from durable.testing.contract.workflows_checkpoint import WorkflowCheckpointContract
from durable.testing.contract.workflows_children import WorkflowChildrenContract
from durable.testing.contract.workflows_forks import WorkflowForksContract
from durable.testing.contract.workflows_messages import WorkflowMessagesContract
from durable.testing.contract.workflows_races import WorkflowRacesContract
from durable.testing.contract.workflows_suspend import WorkflowSuspendContract

__all__ = ["ContractSubject", "Held", "StorageContract"]


class StorageContract(
    EnqueueContract,
    ClaimContract,
    RenewContract,
    SettleContract,
    ChildrenContract,
    WakeContract,
    DutiesContract,
    NextDueContract,
    NextStartContract,
    RecoverContract,
    SuspectsContract,
    CancelContract,
    FinishContract,
    CallbacksContract,
    RetireContract,
    CloseContract,
    RedriveContract,
    JobStartContract,
    JobAppendContract,
    JobTakeContract,
    JobCommitContract,
    JobDeliveryContract,
    JobRenewContract,
    JobTriggerContract,
    JobEndContract,
    JobPauseContract,
    JobLookContract,
    JobRetireContract,
    TimerContract,
    ParallelTimerContract,
    FailedTimerContract,
    WorkflowCheckpointContract,
    WorkflowSuspendContract,
    WorkflowMessagesContract,
    WorkflowForksContract,
    WorkflowCancelContract,
    WorkflowChildrenContract,
    ApprovalContract,
    LookContract,
    NoticesContract,
    NotedContract,
    ExecutorsContract,
    DoctorContract,
    OperationContract,
    PoolsContract,
    PoolKeysContract,
    PoolReportsContract,
    ClaimRacesContract,
    PoolRacesContract,
    TreeRacesContract,
    EnqueueRacesContract,
    JobRacesContract,
    JobTurnRacesContract,
    WorkflowRacesContract,
    ParityContract,
):
    """Everything that durable.storage.Storage promises."""

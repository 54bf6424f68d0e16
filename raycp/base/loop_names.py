"""The names of all supervised loops: what the metric ``raycp_loop_failures_total`` counts by, so no name contains an object."""

from enum import StrEnum


class LoopName(StrEnum):
    """A loop that goes on for as long as there is something for it to do (law 12)."""

    # every member
    PERMIT = "permit"
    LEADER_ADDRESS = "leader-address"
    STATISTICS = "statistics"

    # the leader
    LEADER_STEPS = "leader-steps"
    LEADER_RETRY = "leader-retry"
    REVIVAL = "revival"
    PROOF = "proof"
    HISTORY = "history"
    CONDITION = "condition"
    SUPERVISION = "supervision"
    CONFIGURATION = "configuration"
    DEATH = "death"
    MEMBER_END = "member-end"
    RETIREMENT = "retirement"
    RESUMPTION = "resumption"
    LOCK_WATCH = "lock-watch"
    LOCK_POD = "lock-pod"
    ACTIVE_FLEET = "active-fleet"
    TAKEOVER = "takeover"
    STANDBY_CRDS = "standby-crds"
    FOLLOWERS = "followers"

    # shards and their standbys
    CONNECTION = "connection"
    REFLECTOR = "reflector"
    SYNC = "sync"
    SWEEP = "sweep"
    WATERMARKS = "watermarks"
    CLUSTER_GUARD = "cluster-guard"
    CLUSTER_PROBE = "cluster-probe"
    TOKENS = "tokens"
    RESYNC = "resync"
    WAKES = "wakes"
    ROLL_CALL = "roll-call"
    WORKER_INQUIRY = "worker-inquiry"
    ACCOUNT = "account"
    REPLICATION = "replication"
    DELAYED_KEYS = "delayed-keys"
    DUE_KEYS = "due-keys"
    EVENTS = "events"
    CAPACITY = "capacity"
    CAPACITY_REPORTS = "capacity-reports"
    SCHEDULER = "scheduler"
    QUEUE_STATUS = "queue-status"

    # workers
    SHARD_LINK = "shard-link"
    STANDBY_LINK = "standby-link"
    WATCHDOG = "watchdog"
    HAND_OUTS = "hand-outs"

    # the observer
    HTTP_SERVER = "http-server"
    CHECKPOINT = "checkpoint"
    CHECKPOINT_RESTORE = "checkpoint-restore"
    DEAD_PROCESSES = "dead-processes"
    HISTORY_CHECKPOINT = "history-checkpoint"
    MEASUREMENT = "measurement"
    CHANGES = "changes"

    ERRAND = "errand"
    """No loop: background work that is done once, and has failed."""

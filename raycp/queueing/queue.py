"""The work queue as a shard uses it: the core, with holds, removals, a policy that changes live, hand-over and
answers."""

import math
from collections.abc import Callable, Collection, Iterable

from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome
from raycp.classify.verdict import Priority, Reason
from raycp.queueing.core import QueueCore
from raycp.queueing.entry import Entry, Pending, State
from raycp.queueing.explain import Depth, TierDelay, Why
from raycp.queueing.lane import Lane
from raycp.queueing.policy import QueuePolicy
from raycp.queueing.transfer import Saved


class WorkQueue(QueueCore):
    """See ``QueueCore`` for its laws and for ``add``, ``pull``, ``wait_ready``, ``done``, ``retry``, ``requeue``."""

    # -- acknowledgements and deaths -----------------------------------------------------------------------------------

    def settle(self, worker: str, done: Done) -> bool:
        """Take an acknowledgement as it comes from a worker. Returns False if that worker does not hold the key."""
        asked = done.retry_after if done.outcome is Outcome.RETRY else done.requeue_after
        if asked is not None and not 0.0 <= asked < math.inf:
            # Nonsense must not leave the key in limbo: it is an error of the reconciler's like any other.
            error = done.error or f"asked to be run again in {asked} seconds"
            return self.retry(worker, done.key, id=done.id, reason="invalid", error=error) is not None
        if done.outcome is Outcome.RETRY:
            delay = self.retry(worker, done.key, id=done.id, retry_after=asked, error=done.error)
            return delay is not None
        if done.outcome is Outcome.INTERRUPTED:
            return self.interrupted(worker, done.key, id=done.id)
        if done.outcome is Outcome.OK and done.requeue_after is not None:
            return self.requeue(worker, done.key, done.requeue_after, id=done.id, tier=done.tier)
        return self.done(worker, done.key, id=done.id)

    def forget_worker(self, worker: str, culprits: Collection[RequestKey] = ()) -> list[RequestKey]:
        """The worker is dead for certain: its keys return to the front of their lanes at once, ``culprits`` after their
        backoff. Returns all of them."""
        holder = self._workers.pop(worker, None)
        if holder is None:
            return []
        lost = list(holder.running.values())
        for entry in lost:
            self._settle(entry)
        # From the last to the first, each to the front: they keep their order.
        for entry in reversed(lost):
            if entry.key in culprits:
                self._fail(entry, None, Reason.WORKER_LOST, "its worker died of it")
            else:
                self._return(entry, Reason.WORKER_LOST)
        self._slots = max(1, sum(each.slots for each in self._workers.values())) if self._workers else self._policy.slots
        return [entry.key for entry in lost]

    def running(self, worker: str | None = None) -> list[tuple[str, RequestKey, int]]:
        """What is handed out: worker, key, id of the hand-out."""
        holders = self._workers.items() if worker is None else [(worker, self._workers[worker])] if (
            worker in self._workers) else []  # fmt: skip
        return [(name, key, entry.handout) for name, holder in holders for key, entry in holder.running.items()]

    # -- holds ---------------------------------------------------------------------------------------------------------

    def hold(self, key: RequestKey, why: str = "held", timeout: float | None = None) -> None:
        """Don't hand ``key`` out until released for ``why``, or ``timeout`` seconds have passed. What is added
        meanwhile waits. A key that runs is held once it comes back."""
        now = self._clock.now()
        self._holds.add(key, why, math.inf if timeout is None else now + timeout)
        entry = self._entries.get(key)
        if entry is None:
            self._sequence += 1
            background = self._policy.background
            self._entries[key] = Entry(key, self._sequence, background, 0, why, False, now, now, state=State.HELD)
        elif entry.state is State.READY or entry.state is State.DELAYED:
            ready_at = now if entry.state is State.READY else entry.ready_at
            self._withdraw(entry)
            entry.pending = Pending(entry.tier, entry.priority, ready_at, entry.reason, entry.real, entry.added, entry.retry)
            entry.state = State.HELD
        if self.on_due_changed is not None:
            self.on_due_changed()
        if len(self._waiters):
            self._waiters.arm()

    def release(self, key: RequestKey, why: str | None = None) -> bool:
        """End one reason to hold ``key``, or all of them. Returns whether it is held no more."""
        if not self._holds.remove(key, why):
            return key not in self._holds
        entry = self._entries.get(key)
        if entry is not None and entry.state is State.HELD:
            self._leave(entry)
        return True

    def _withdraw(self, entry: Entry) -> None:
        if entry.state is State.READY:
            self._unqueue(entry)
        elif entry.state is State.DELAYED:
            self._undelay(entry)

    # -- removals ------------------------------------------------------------------------------------------------------

    def remove(self, key: RequestKey) -> bool:
        """Forget the key: nothing is left to reconcile. If it runs, only its rerun is forgotten. Returns whether
        anything was."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.state is State.RUNNING or (entry.state is State.HELD and key in self._holds):
            had = entry.pending is not None
            entry.pending = None
            return had
        self._withdraw(entry)
        del self._entries[key]
        return True

    def remove_cluster(self, cluster: str) -> list[RequestKey]:
        """The cluster leaves the fleet: its keys are forgotten and none is taken on; returns those still running,
        which the caller waits for. ``admit_cluster`` takes it on again."""
        self._leaving.add(cluster)
        running: list[RequestKey] = []
        for key, entry in list(self._entries.items()):
            if key.cluster != cluster:
                continue
            self._holds.remove(key, None)
            if entry.state is State.RUNNING:
                entry.pending = None
                running.append(key)
            else:
                self._withdraw(entry)
                del self._entries[key]
        return running

    def admit_cluster(self, cluster: str) -> None:
        """Undo ``remove_cluster``."""
        self._leaving.discard(cluster)

    def remove_controller(self, controller: str) -> int:
        """Forget all keys of a controller that the fleet has no more. Returns how many."""
        return sum(self.remove(key) for key in list(self._entries) if key.controller == controller)

    # -- limits and policy ---------------------------------------------------------------------------------------------

    def limit_cluster(self, cluster: str, in_flight: int | None, why: str = "") -> None:
        """Hand out at most ``in_flight`` keys of ``cluster`` at once: 0 while its breaker is open, 1 to probe it, None
        as the policy says. Its keys wait, and harm no others."""
        state = self._cluster(cluster)
        state.override, state.why = in_flight, why
        self._apply_limit(cluster)

    def block_cluster(self, cluster: str, why: str = "blocked") -> None:
        """Hand out none of its keys."""
        self.limit_cluster(cluster, 0, why)

    def unblock_cluster(self, cluster: str) -> None:
        """As the policy says, again."""
        self.limit_cluster(cluster, None)

    def blocked_clusters(self) -> dict[str, str]:
        """Clusters of which nothing is handed out, and why."""
        return {name: state.why for name, state in self._clusters.items() if state.limit == 0}

    def _apply_limit(self, cluster: str) -> None:
        state = self._cluster(cluster)
        base = self._limit_of(cluster)
        state.limit = base if state.override is None else min(state.override, base)
        if state.in_flight < state.limit:
            state.step_in()
        self._look_again()

    def _look_again(self) -> None:
        now = self._clock.now()
        for lane in self._order:
            lane.next_check = now
        self._stuck = False
        if self._ready:
            self._waiters.wake()

    @property
    def policy(self) -> QueuePolicy:
        """What applies now."""
        return self._policy

    def set_policy(self, policy: QueuePolicy) -> None:
        """Apply another policy to what is queued, running and to come. Items of a tier that is gone go to the default's
        lane. ``fifo`` can't be switched: raises ``ValueError``."""
        if policy.fifo != self._policy.fifo:
            raise ValueError("fifo can't be switched in a living queue")
        now = self._clock.now()
        old, self._policy = self._lanes, policy
        self._order = []
        for rank, each in enumerate(policy.lanes):
            lane = old.get(each.name)
            if lane is None:
                lane = Lane(each, rank, now)
                lane.vtime = self._vtime
            lane.advance(now, self._slots)
            lane.set_policy(each, rank)
            self._order.append(lane)
        self._lanes = {lane.name: lane for lane in self._order}
        gone = [lane for name, lane in old.items() if name not in self._lanes]
        if gone:
            for entry in list(self._entries.values()):
                if entry.pending is not None and entry.pending.tier not in self._lanes:
                    entry.pending.tier = policy.default
                if entry.tier in self._lanes:
                    continue
                if entry.state is State.READY:
                    self._unqueue(entry)
                    entry.tier = policy.default
                    self._push(entry, now, since=entry.since)
                elif entry.state is State.DELAYED:
                    self._recount_delayed(entry, policy.default)
                elif entry.state is State.HELD:
                    entry.tier = policy.default
                # What runs keeps the lane that it was handed out from until its end.
        for name, cluster in self._clusters.items():
            if not policy.fifo:
                cluster.limit = min(self._limit_of(name), math.inf if cluster.override is None else cluster.override)
                if cluster.in_flight < cluster.limit:
                    cluster.step_in()
        for name, controller in self._controllers.items():
            cap = policy.concurrency.get(name)
            controller.cap = math.inf if cap is None or policy.fifo else cap
            controller.all_in()
        if not self._workers:
            self._slots = policy.slots
        self._look_again()

    def retier(self, tier_of: Callable[[RequestKey], str | None]) -> int:
        """The rules have changed: put what waits into the lane that ``tier_of`` names (None: leave it). The system's own work
        (polls, resyncs, existing objects) stays where it is, and what runs keeps its lane until its end. Returns how many moved."""
        now = self._clock.now()
        moved = 0
        for entry in list(self._entries.values()):
            pending = entry.pending
            due = pending if entry.state >= State.RUNNING else entry
            if due is None or due.priority <= Priority.POLL:
                continue
            tier = tier_of(entry.key)
            if tier is None or tier == due.tier or tier not in self._lanes:
                continue
            moved += 1
            if pending is not None:
                pending.tier = tier
            if entry.state is State.READY:
                self._unqueue(entry)
                entry.tier = tier
                self._push(entry, now, since=entry.since)
            elif entry.state is State.DELAYED:
                self._recount_delayed(entry, tier)
            elif entry.state is State.HELD:
                entry.tier = tier
        if moved:
            self._look_again()
        return moved

    # -- hand-over -----------------------------------------------------------------------------------------------------

    def snapshot(self, keys: Iterable[RequestKey] | None = None) -> list[Saved]:
        """The queue's content, for a successor; of ``keys`` only where given. In the order in which keys came."""
        now = self._clock.now()
        entries = self._entries.values() if keys is None else [self._entries[key] for key in keys if key in self._entries]
        return [self._saved(entry, now) for entry in entries]

    def _saved(self, entry: Entry, now: float) -> Saved:
        pending = entry.pending
        holds = self._holds.reasons(entry.key)
        age = now - entry.added
        if entry.state is State.RUNNING:
            more = pending is not None and self._lanes[pending.tier].rank < self._rank(entry.tier)
            return Saved(
                entry.key, pending.tier if pending is not None and more else entry.tier,
                max(entry.priority, pending.priority if pending is not None else entry.priority), entry.reason,
                entry.real or (pending is not None and pending.real), 0.0, age, now - entry.since, entry.attempts,
                entry.retry and not (pending is not None and pending.real), entry.worker, holds, True, entry.error,
            )  # fmt: skip
        if entry.state is State.HELD:
            if pending is None:
                return Saved(
                    entry.key, entry.tier, entry.priority, entry.reason, False, 0.0, age, 0.0, entry.attempts, False,
                    "", holds, False, entry.error,
                )  # fmt: skip
            return Saved(
                entry.key, pending.tier, pending.priority, pending.reason, pending.real,
                max(0.0, pending.ready_at - now), now - pending.observed, max(0.0, now - pending.ready_at),
                entry.attempts, pending.retry, "", holds, True, entry.error,
            )  # fmt: skip
        ready = entry.state is State.READY
        return Saved(
            entry.key, entry.tier, entry.priority, entry.reason, entry.real, 0.0 if ready else max(0.0, entry.ready_at
            - now), age, now - entry.since if ready else 0.0, entry.attempts, entry.retry, "", holds, True, entry.error,
        )  # fmt: skip

    def _rank(self, tier: str) -> int:
        lane = self._lanes.get(tier)
        return lane.rank if lane is not None else len(self._order)

    def restore(self, saved: Iterable[Saved], hold_running: str | None = None) -> None:
        """Take over what a predecessor had. Keys that are here already are merged by law 3.

        What it had handed out is due at once, or, with ``hold_running``, held under that reason until ``release``.
        """
        now = self._clock.now()
        for each in saved:
            for why in each.holds:
                self.hold(each.key, why)
            if each.worker and hold_running is not None:
                self.hold(each.key, hold_running)
            known = self._entries.get(each.key)
            if not each.due:
                continue
            fresh = known is None
            held = known is not None and known.state is State.HELD and known.pending is None
            reason = Reason.INTERRUPTED if each.worker else each.reason
            self.add(each.key, tier=each.tier, priority=each.priority, delay=each.delay, reason=reason, real=each.real)
            entry = self._entries.get(each.key)
            if entry is None:
                continue  # its cluster is leaving
            entry.attempts = max(entry.attempts, each.attempts)
            entry.error = entry.error or each.error
            if not (fresh or held):
                continue
            if entry.pending is not None:
                entry.pending.retry = each.retry
                entry.pending.observed = now - each.age
                continue
            if each.retry and not entry.retry:
                # As a retry from the start, so that its lane's limit holds for it.
                if entry.state is State.READY:
                    self._unqueue(entry)
                    entry.retry = True
                    self._push(entry, now)
                else:
                    entry.retry = True
            entry.added = now - each.age
            entry.since = now - each.ready_for
            entry.merged = 0

    # -- answers -------------------------------------------------------------------------------------------------------

    def depths(self) -> list[Depth]:
        """Per tier, controller and cluster; only ready items count as depth."""
        now = self._clock.now()
        self._promote(now, len(self._heap))
        found: list[Depth] = []
        for cell in self._cells.values():
            oldest = now - next(iter(cell.ready.values())).since if cell.ready else 0.0
            ages = [now - entry.started for entry in cell.running.values()]
            found.append(
                Depth(
                    cell.tier, cell.controller, cell.cluster, len(cell.ready), cell.delayed, len(ages), oldest,
                    sum(ages), max(ages, default=0.0),
                )
            )  # fmt: skip
        return found

    @property
    def ready(self) -> int:
        """Ready items in all lanes, blocked ones too."""
        return self._ready

    @property
    def delayed(self) -> int:
        """Items that wait for their time."""
        return self._delayed

    def oldest_ready(self) -> dict[str, float]:
        """Per tier, the age in seconds of the oldest ready item that may be served; 0 if there is none."""
        now = self._clock.now()
        ages: dict[str, float] = {}
        for lane in self._order:
            since = lane.oldest(now)
            ages[lane.name] = now - since if since != math.inf else 0.0
        return ages

    def delays(self) -> list[TierDelay]:
        """Recent queue delay per tier, for autoscaling."""
        now = self._clock.now()
        found: list[TierDelay] = []
        for lane in self._order:
            count, p50, p99, worst = lane.waits.summary(now)
            since = lane.oldest(now)
            oldest = now - since if since != math.inf else 0.0
            found.append(TierDelay(lane.name, lane.queued, lane.in_flight, oldest, count, p50, p99, worst))
        return found

    def why(self, key: RequestKey) -> Why | None:
        """Where ``key`` is and what it waits for; None if it is not here. Costs up to O(n): for people, not for
        loops."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock.now()
        pending = entry.pending
        ready_for, left, ahead, waits_for = 0.0, 0.0, 0, ""
        if entry.state is State.READY:
            ready_for = now - entry.since
            ahead, waits_for = self._ahead(entry), self._obstacle(entry)
        elif entry.state is State.DELAYED:
            left = max(0.0, entry.ready_at - now)
            waits_for = "its backoff" if entry.retry else "its time"
        elif entry.state is State.HELD:
            waits_for = "release: " + ", ".join(self._holds.reasons(key))
            left = max(0.0, pending.ready_at - now) if pending is not None else 0.0
        else:
            waits_for = f"the end of the reconcile that worker {entry.worker} began {now - entry.started:.3g} s ago"
        return Why(
            key, entry.state.name.lower(), entry.tier, entry.priority, entry.reason, entry.retry, entry.attempts,
            now - entry.added, ready_for, left, ahead, entry.merged, entry.worker, pending is not None, waits_for,
            entry.error,
        )  # fmt: skip

    def _obstacle(self, entry: Entry) -> str:
        leaf = entry.leaf
        assert leaf is not None
        cluster, controller = leaf.space.node.state, leaf.controller
        if cluster.in_flight >= cluster.limit:
            reason = f" ({cluster.why})" if cluster.why else ""
            return f"cluster {cluster.name}: {cluster.in_flight} in flight, limit {cluster.limit:g}{reason}"
        if controller.in_flight >= controller.cap:
            return f"controller {controller.name}: {controller.in_flight} in flight, concurrency {controller.cap:g}"
        if entry.retry and entry.cell is not None and entry.cell.lane.retries:
            return f"its turn; {entry.cell.lane.retries} retries of the lane are running"
        return ""

    def _ahead(self, entry: Entry) -> int:
        """Items of its lane before it: all of a higher priority, those before it in its own namespace, and of each
        other namespace and cluster as many as fair turns let go first."""
        cell, leaf = entry.cell, entry.leaf
        assert cell is not None
        assert leaf is not None
        own = leaf.space.node.tree
        ahead = 0
        for each in cell.lane.classes:
            if own is each.fresh or own is each.retry:
                break
            ahead += each.fresh.queued
        place = next(index for index, number in enumerate(leaf.queue) if number == entry.id)
        in_space = place + sum(min(len(other.queue), place + 1) for other in leaf.space.leaves.values() if other is not leaf)
        in_node = in_space + sum(
            min(space.queued, in_space + 1) for space in leaf.space.node.spaces.values() if space is not leaf.space
        )
        in_tree = in_node + sum(
            min(node.queued, in_node + 1)
            for node in own.nodes.values()
            if node is not leaf.space.node and node.state.in_flight < node.state.limit
        )
        return ahead + in_tree

    def close(self) -> None:
        """Release everyone who waits, and let go of all items. The queue can't be used afterwards."""
        self._waiters.close()
        # Entries are not tracked by the garbage collector (there are many), so their cycles are broken here.
        for entry in self._entries.values():
            entry.leaf = entry.cell = None
        self._entries.clear()
        self._heap.clear()

"""``plan(job, pods, clusters, now) -> JobPlan``: the next step of a job. Pure; every decision of the controller is made here.

Steps, in order: *forget* clusters that were abandoned by annotation; *count* ends that no status has counted yet; *judge* whether
the job has succeeded or failed; *suspend* or start it; *trim* surplus Pods; *fill* up with new ones; *finish* when all Pods have
ended; *describe* the result as a status. The status must be written before the rest is carried out.
"""

from collections import Counter
from collections.abc import Iterable

from raycp.base.tasks import CLUSTER
from raycp.controllers.batchjob import policy
from raycp.controllers.batchjob.job import NAME_TAKEN, PODS_REFUSED, POLL, Create, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.types import Placement
from raycp.scheduling import Candidate, Demand, Rules, place
from raycp.sdk import conditions


def plan(job: Job, pods: Iterable[JobPod], clusters: Iterable[JobCluster], now: float) -> JobPlan:
    """The next step of ``job``. ``pods`` are all that are seen in visible clusters; ``now`` is Unix time in seconds."""
    return _Planner(job, list(pods), list(clusters), now).run()


class _Planner:
    def __init__(self, job: Job, pods: list[JobPod], clusters: list[JobCluster], now: float) -> None:
        self.job, self.spec, self.now = job, job.spec, now
        self.pods = sorted(pods, key=lambda pod: (pod.index, pod.attempt, pod.cluster))
        self.clusters = {cluster.name: cluster for cluster in clusters}
        self.record = JobRecord.read(dict(job.status))
        self.out = JobPlan()
        self.running: dict[int, list[JobPod]] = {}
        """Pods that have not ended, by index: an index with one gets no other."""
        self.blocked: set[int] = set()
        self.live: list[JobPod] = []
        """Pods that run and are wanted."""
        self.policy_failure: tuple[str, str] | None = None
        self.wakes: list[float] = []
        self.unplaced = ""

    def run(self) -> JobPlan:
        self.finished = self.record.true("Complete") or self.record.true("Failed")
        self._forget()
        self._count()
        self._tidy()
        if not self.finished:
            self._judge()
            self._suspend()
        self._trim()
        self._fill()
        self._finish()
        self._describe()
        if self.wakes:
            self.out.requeue_after = max(0.1, min(self.wakes) - self.now)
        return self.out

    # -- steps

    def _forget(self) -> None:
        record = self.record
        for index, cluster in list(record.assigned.items()):
            if cluster in self.job.forgotten and not self._visible(cluster):
                del record.assigned[index]
                record.attempts[index] = record.attempts.get(index, 0) + 1
        if self.spec.completions is not None and not self.finished:
            # an elastic Indexed job that has shrunk; attempts and failures are kept, in case it grows again
            record.completed = {index for index in record.completed if index < self.spec.size}

    def _count(self) -> None:
        record = self.record
        for pod in self.pods:
            if not pod.ended:
                self.running.setdefault(pod.index, []).append(pod)
            if self.finished or self._settled(pod):
                self._old(pod)
            elif pod.phase == "Succeeded":
                record.completed.add(pod.index)
                for memory in (record.attempts, record.index_failures, record.assigned):
                    memory.pop(pod.index, None)
                record.tally(pod.cluster).succeeded += 1
                record.failures_in_a_row = 0
                self._release(pod)
            elif pod.given_up:
                # ended or not, its name is taken until it is deleted
                self.blocked.add(pod.index)
                if pod.ends_at is None or pod.tracked:
                    self.out.ends.append(pod)
            elif pod.phase == "Failed" or pod.overdue(self.now):
                self._failure(pod)
            elif pod.terminating:
                self.wakes.append(pod.overdue_at)
            elif any(other.index == pod.index for other in self.live[-1:]):
                self.out.ends.append(pod)  # law 1 rules this out; should it happen, one of them is deleted
            else:
                self.live.append(pod)
                record.assigned.setdefault(pod.index, pod.cluster)
                if pod.attempt > record.attempts.get(pod.index, 0):
                    record.attempts[pod.index] = pod.attempt

    def _tidy(self) -> None:
        """Unassign indexes that will not run again, once none of their Pods runs."""
        record = self.record
        for index, cluster in list(record.assigned.items()):
            over = self.spec.completions is not None and index >= self.spec.size
            if (over or index in record.failed_indexes) and index not in self.running and self._visible(cluster):
                del record.assigned[index]

    def _failure(self, pod: JobPod) -> None:
        record, spec, index = self.record, self.spec, pod.index
        action, why = policy.action_for(pod, spec)
        record.attempts[index] = pod.attempt + 1
        if pod.ended:  # an overdue one may run on while its cluster is unreachable: it stays assigned
            record.assigned.pop(index, None)
        self._release(pod)
        if action == "Ignore":
            return
        record.failed += 1
        record.tally(pod.cluster).failed += 1
        record.failures_in_a_row += 1
        backoff = spec.retry_backoff
        wait = min(backoff.initial_seconds * 2.0 ** min(record.failures_in_a_row - 1, 60), backoff.max_seconds)
        record.backoff_until = self.now + wait
        if action == "FailJob":
            self.policy_failure = ("PodFailurePolicy", why)
        if spec.backoff_limit_per_index is not None:
            record.index_failures[index] = record.index_failures.get(index, 0) + 1
            if action == "FailIndex" or record.index_failures[index] > spec.backoff_limit_per_index:
                record.failed_indexes.add(index)
                record.attempts.pop(index, None)

    def _old(self, pod: JobPod) -> None:
        """A Pod whose end is counted, or no longer matters."""
        if pod.ended or pod.terminating:
            self._release(pod)
        else:
            self.out.ends.append(pod)

    def _judge(self) -> None:
        record, spec = self.record, self.spec
        if record.true("SuccessCriteriaMet") or record.true("FailureTarget"):
            return
        failed = sum(index < spec.size for index in record.failed_indexes)
        done = len(record.completed) + failed
        met = policy.success_met(spec, record.completed)
        if met:
            self._set("SuccessCriteriaMet", True, "SuccessPolicy", met)
        elif spec.work_queue and record.completed and not self.running and not self._hidden():
            self._set("SuccessCriteriaMet", True, "CompletionsReached", "a Pod succeeded and all have ended")
        elif not spec.work_queue and done >= spec.size and not failed:
            self._set("SuccessCriteriaMet", True, "CompletionsReached", f"{len(record.completed)} of {spec.size} succeeded")
        else:
            failure = self._failure_reason(done, failed)
            if failure is not None:
                self._set("FailureTarget", True, *failure)
                self.out.events.append(("Warning", *failure))

    def _failure_reason(self, done: int, failed: int) -> tuple[str, str] | None:
        record, spec = self.record, self.spec
        if self.job.failure is not None:
            return self.job.failure
        if self.policy_failure is not None:
            return self.policy_failure
        if spec.backoff_limit_per_index is None and record.failed > spec.backoff_limit:
            return "BackoffLimitExceeded", f"{record.failed} Pods failed, backoffLimit is {spec.backoff_limit}"
        if spec.max_failed_indexes is not None and failed > spec.max_failed_indexes:
            return "MaxFailedIndexesExceeded", f"{failed} indexes failed, maxFailedIndexes is {spec.max_failed_indexes}"
        if failed and not spec.work_queue and done >= spec.size:
            return "FailedIndexes", f"{failed} of {spec.size} indexes failed"
        if spec.active_deadline_seconds is not None and record.start is not None and not spec.suspend:
            due = record.start + spec.active_deadline_seconds
            if self.now >= due:
                return "DeadlineExceeded", f"it was active longer than {spec.active_deadline_seconds} s"
            self.wakes.append(due)
        return None

    def _suspend(self) -> None:
        record = self.record
        if self._ending():
            return
        if self.spec.suspend:
            if self._set("Suspended", True, "JobSuspended", "spec.suspend is true"):
                self.out.events.append(("Normal", "Suspended", "the job is suspended; its Pods are deleted"))
            record.start = None
            self.out.ends += self.live
            self.live = []
            return
        if record.true("Suspended"):
            self._set("Suspended", False, "JobResumed", "spec.suspend is false")
            self.out.events.append(("Normal", "Resumed", "the job is resumed"))
        if record.start is None:
            record.start = float(int(self.now))
            if self.spec.active_deadline_seconds is not None:
                self.wakes.append(record.start + self.spec.active_deadline_seconds)

    def _trim(self) -> None:
        if self.finished or self._ending():
            self.out.ends += self.live
            self.live = []
            return
        over = len(self.live) + len(self._hidden()) - self.spec.at_once
        if over > 0:
            cheap = sorted(self.live, key=lambda pod: (pod.ready, pod.phase == "Running", -pod.index))
            self.out.ends += cheap[:over]
            self.live = sorted(cheap[over:], key=lambda pod: pod.index)

    def _fill(self) -> None:
        record, spec = self.record, self.spec
        if self.finished or self._ending() or spec.suspend or (spec.work_queue and record.completed):
            return
        hidden = self._hidden()
        want = spec.at_once - sum(map(len, self.running.values())) - len(hidden)
        chosen: list[int] = []
        for index in range(spec.size):
            if len(chosen) >= want:
                break
            taken = index in self.running or index in self.blocked or index in hidden
            if taken or index in record.completed or index in record.failed_indexes:
                continue
            if record.attempts.get(index) and self.now < record.backoff_until:
                self.wakes.append(record.backoff_until)
                self.out.waiting = "backoff"
                continue
            chosen.append(index)
        homeless = [index for index in chosen if index not in record.assigned]
        self._place(homeless)
        for index in chosen:
            cluster = record.assigned.get(index)
            if cluster is not None:
                record.tally(cluster)
                self.out.creates.append(Create(cluster, index, record.attempts.get(index, 0)))

    def _place(self, homeless: list[int]) -> None:
        """Assign these indexes to clusters, each cluster a run of them."""
        if not homeless:
            return
        record = self.record
        existing: dict[str, int] = {}
        for cluster in record.assigned.values():
            existing[cluster] = existing.get(cluster, 0) + 1
        demand = Demand(self.job.uid, len(homeless), rules_of(self.spec.placement), existing, frozenset(self._used()))
        decision = place(demand, [_candidate(cluster) for cluster in self.clusters.values()], self.now)
        left = iter(homeless)
        for cluster, count in decision.assigned.items():
            for _ in range(count):
                record.assigned[next(left)] = cluster
        self.unplaced = decision.reason
        if decision.unplaced:
            self.out.waiting = "capacity"
            self.wakes.append(self.now + POLL)

    def _finish(self) -> None:
        record = self.record
        if not self.finished and self._ending():
            hidden = self._hidden()
            if not self.running and not hidden:
                self.finished = True
                success = conditions.get(record.conditions, "SuccessCriteriaMet")
                reached = success if success and success["status"] == "True" else None
                target = reached or conditions.get(record.conditions, "FailureTarget")
                assert target is not None
                self._set("Complete" if reached else "Failed", True, target["reason"], target["message"])
                if reached:
                    record.completion = float(int(self.now))
                    self.out.events.append(("Normal", "Completed", f"{len(record.completed)} succeeded"))
                record.assigned.clear()
                record.attempts.clear()
                record.failures_in_a_row = 0
            elif hidden:
                self.wakes.append(self.now + POLL)
        ttl = self.spec.ttl_seconds_after_finished
        if self.finished and ttl is not None:
            ended = conditions.get(record.conditions, "Complete" if record.true("Complete") else "Failed")
            at = conditions.parse_time((ended or {}).get("lastTransitionTime")) or self.now
            if self.now >= at + ttl:
                self.out.delete_job = True
            else:
                self.wakes.append(at + ttl)

    def _describe(self) -> None:
        record, out = self.record, self.out
        for pod in self.live:
            record.tally(pod.cluster)
        live = Counter(pod.cluster for pod in self.live)
        ready_in = Counter(pod.cluster for pod in self.live if pod.ready)
        created = Counter(create.cluster for create in out.creates)
        waited_for = set(record.assigned.values())
        unreachable = []
        for name, tally in record.clusters.items():
            cluster = self.clusters.get(name)
            visible = cluster is not None and cluster.visible
            # A finished job waits for no cluster, and is not written again whenever one that it used is lost or returns.
            tally.reachable = visible or self.finished
            tally.message = "" if tally.reachable else (cluster.reason if cluster else "") or "not reachable"
            if not visible:
                if name in waited_for:
                    unreachable.append(name)
                elif self.finished:
                    tally.active = tally.ready = 0
                continue
            tally.active, tally.ready = live[name] + created[name], ready_in[name]
        if unreachable and not self.finished:
            self.wakes.append(self.now + POLL)
            out.waiting = out.waiting or CLUSTER
            message = f"can't reach {', '.join(sorted(unreachable))}; Pods there are assumed to be running"
            if self._set("ClustersReachable", False, "ClusterUnreachable", message):
                out.events.append(("Warning", "ClusterUnreachable", message))
        elif conditions.get(record.conditions, "ClustersReachable"):
            self._set("ClustersReachable", True, "Reachable", "")
        active = sum(tally.active for tally in record.clusters.values())
        ready = sum(tally.ready for tally in record.clusters.values())
        scheduled = conditions.get(record.conditions, "Scheduled")
        if self.unplaced:
            if self._set("Scheduled", False, "NoClusterFits", self.unplaced):
                out.events.append(("Warning", "NoClusterFits", self.unplaced))
        elif not self.spec.suspend and not (out.creates and scheduled and scheduled["reason"] in (PODS_REFUSED, NAME_TAKEN)):
            self._set("Scheduled", True, "Placed", "")
        if not self.finished and not self.spec.suspend:
            whole = active > 0 and ready == active
            self._set("PodsReady", whole, "AllReady" if whole else "NotAllReady", "")
        elif self.finished:
            conditions.remove(record.conditions, "PodsReady")
        terminating = sum(pod.terminating for pods in self.running.values() for pod in pods)
        out.status = record.write(self.job.generation, terminating, self._phase(active))

    # -- helpers

    def _phase(self, active: int) -> str:
        if self.finished:
            return "Complete" if self.record.true("Complete") else "Failed"
        if self._ending():
            return "Completing" if self.record.true("SuccessCriteriaMet") else "Failing"
        if self.spec.suspend:
            return "Suspended"
        return "Running" if active else "Pending"

    def _settled(self, pod: JobPod) -> bool:
        """Whether its end is counted already, or its index no longer exists."""
        record, index = self.record, pod.index
        if self.spec.completions is not None and index >= self.spec.size:
            return True
        if index in record.completed or index in record.failed_indexes:
            return True
        return pod.attempt < record.attempts.get(index, 0)

    def _release(self, pod: JobPod) -> None:
        if pod.tracked:
            self.out.releases.append(pod)

    def _visible(self, cluster: str) -> bool:
        found = self.clusters.get(cluster)
        return found is not None and found.visible

    def _hidden(self) -> set[int]:
        """Indexes assigned to unreachable clusters: assumed to be running."""
        return {index for index, cluster in self.record.assigned.items() if not self._visible(cluster)}

    def _used(self) -> set[str]:
        touched = {name for name, tally in self.record.clusters.items() if tally.succeeded or tally.failed}
        return touched | set(self.record.assigned.values())

    def _ending(self) -> bool:
        return self.record.true("SuccessCriteriaMet") or self.record.true("FailureTarget")

    def _set(self, type: str, status: bool, reason: str, message: str) -> bool:
        return conditions.set(
            self.record.conditions,
            type,
            status,
            reason,
            message,
            now=self.now,
            observed_generation=self.job.generation,
        )


def rules_of(placement: Placement) -> Rules:
    """The job's ``placement`` as placement rules."""
    return Rules(
        strategy=placement.strategy,
        clusters=tuple(placement.clusters),
        selector=placement.cluster_selector,
        max_clusters=placement.max_clusters,
        max_per_cluster=placement.max_pods_per_cluster,
        weights=placement.weights,
    )


def _candidate(cluster: JobCluster) -> Candidate:
    return Candidate(cluster.name, cluster.labels, cluster.visible, cluster.reason, cluster.free_pods)

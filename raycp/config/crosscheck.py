"""The rules of a fleet file that span fields. Pure: a document in, violations out."""

from collections.abc import Callable, Iterator

from raycp.config.clusters import ClusterSpec
from raycp.config.fleet import FleetDoc
from raycp.config.names import is_label_key, is_label_value, nearest
from raycp.config.problems import Loc, Violation
from raycp.config.tiers import TIERS, RuleWhen, TierRule, TierSpec
from raycp.config.units import format_duration, format_percent


def crosscheck(doc: FleetDoc) -> list[Violation]:
    """All violations of a document whose fields are valid one by one."""
    return [violation for rule in _RULES for violation in rule(doc)]


def _unique_clusters(doc: FleetDoc) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for index, cluster in enumerate(doc.spec.clusters):
        first = seen.setdefault(cluster.name, index)
        if first != index:
            loc: Loc = ("spec", "clusters", index, "name")
            yield Violation(loc, f"is also the name of spec.clusters[{first}]", "give each cluster a name of its own")


def _one_way_in(doc: FleetDoc) -> Iterator[Violation]:
    for index, cluster in enumerate(doc.spec.clusters):
        loc: Loc = ("spec", "clusters", index)
        ways = [
            way
            for way, given in (
                ("kubeconfig", cluster.kubeconfig is not None),
                ("inCluster", cluster.in_cluster),
                ("embedded", cluster.embedded is not None),
            )
            if given
        ]
        if not ways:
            yield Violation(
                loc,
                f"({cluster.name}) does not say how to connect to the cluster",
                "add one of: kubeconfig: {path: ...}, inCluster: true, embedded: {}",
            )
        elif len(ways) > 1:
            yield Violation(loc, f"({cluster.name}) has both {' and '.join(ways)}", "keep one of them")
        elif cluster.insecure_skip_tls_verify and cluster.kubeconfig is None:
            yield Violation(
                (*loc, "insecureSkipTlsVerify"),
                f"has no meaning for a cluster that is {ways[0]}: its certificate authority is known",
                "remove it",
            )
        if cluster.burst is not None and cluster.qps is None:
            yield Violation((*loc, "burst"), "has no meaning without qps", "add qps, or remove it")
        if cluster.breaker.max < cluster.breaker.min:
            yield Violation((*loc, "breaker", "max"), "is shorter than breaker.min", "make it at least as long")
        limits = cluster.limits
        for small, large in (("line", "page"), ("page", "list"), ("page", "memory")):
            if getattr(limits, large) < getattr(limits, small):
                yield Violation((*loc, "limits", large), f"is less than limits.{small}", "make it at least as large")


def _one_hub(doc: FleetDoc) -> Iterator[Violation]:
    clusters = doc.spec.clusters
    hubs = [index for index, cluster in enumerate(clusters) if cluster.role == "hub"]
    if len(clusters) > 1 and not hubs:
        yield Violation(("spec", "clusters"), "have no hub", "give the cluster on which users create their jobs role: hub")
    for index in hubs[1:]:
        yield Violation(
            ("spec", "clusters", index, "role"),
            f"makes a second hub: {clusters[hubs[0]].name} is the hub already",
            "a fleet has one hub; make the others role: member",
        )


def _same_cluster_twice(doc: FleetDoc) -> Iterator[Violation]:
    """Two entries for one API server would give its keys to two workers at once (law 1)."""
    seen: dict[tuple[str, ...], ClusterSpec] = {}
    for index, cluster in enumerate(doc.spec.clusters):
        identities: list[tuple[tuple[str, ...], str]] = []
        if cluster.kubeconfig:
            path = cluster.kubeconfig.path
            identities.append((("kubeconfig", path, cluster.kubeconfig.context or ""), "kubeconfig"))
        elif cluster.in_cluster:
            identities.append((("inCluster",), "inCluster"))
        elif cluster.embedded:
            if cluster.embedded.port:
                identities.append((("port", cluster.embedded.host, str(cluster.embedded.port)), "embedded.port"))
            if cluster.embedded.data_dir:
                identities.append((("dataDir", str(cluster.embedded.data_dir)), "embedded.dataDir"))
        for identity, key in identities:
            other = seen.setdefault(identity, cluster)
            if other is not cluster and other.name != cluster.name:
                loc: Loc = ("spec", "clusters", index, *key.split("."))
                yield Violation(loc, f"is the same as that of {other.name}", "one entry for each cluster")


def _controllers(doc: FleetDoc) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for index, controller in enumerate(doc.spec.controllers):
        loc: Loc = ("spec", "controllers", index)
        first = seen.setdefault(controller.key, index)
        if first != index:
            where = "name" if controller.name else "use"
            remedy = "give one of them another name" if controller.name else "remove one, or give each a name"
            yield Violation((*loc, where), f"is the same as in spec.controllers[{first}]", remedy)
        for key, values in controller.clusters.items():
            yield from _matchable_label((*loc, "clusters", key), key, values)
        names = [cluster.name for cluster in doc.spec.clusters]
        for name in controller.credentials:
            if name not in names:
                close = nearest(name, names)
                remedy = f"did you mean {close!r}?" if close else f"its clusters are: {', '.join(names)}"
                yield Violation((*loc, "credentials", name), "is not a cluster of the fleet", remedy)
        if controller.retry.max < controller.retry.min:
            yield Violation((*loc, "retry", "max"), "is shorter than retry.min", "make it at least as long")
        if not any(controller.selects(cluster.all_labels) for cluster in doc.spec.clusters):
            yield Violation((*loc, "clusters"), "matches no cluster of the fleet", _selector_remedy(doc, controller.clusters))


def _selector_remedy(doc: FleetDoc, selector: dict[str, list[str]]) -> str:
    have = {key: set[str]() for key in selector}
    for cluster in doc.spec.clusters:
        for key, value in cluster.all_labels.items():
            have.setdefault(key, set()).add(value)
    for key, values in selector.items():
        if not have[key]:
            close = nearest(key, [known for known, found in have.items() if found])
            return f"no cluster has the label {key}" + (f"; did you mean {close!r}?" if close else "")
        if not have[key] & set(values):
            return f"clusters have {key}: {', '.join(sorted(have[key]))}"
    return "no cluster has all of these labels"


def _shares(doc: FleetDoc) -> Iterator[Violation]:
    tiers = doc.spec.tiers
    total = round(sum(tiers.of(name).share for name in TIERS), 9)
    if total > 1:
        parts = ", ".join(f"{name} {format_percent(tiers.of(name).share)}{_given(tiers.of(name))}" for name in TIERS)
        message = f"have shares of {format_percent(total)} together: {parts}"
        yield Violation(("spec", "tiers"), message, "lower them to 100 % or less")
    if total > 0:
        for name in TIERS:
            if tiers.of(name).share == 0:
                yield Violation(
                    ("spec", "tiers", name, "share"),
                    "is nothing: the tier would starve (law 4)",
                    "give it some percent; what it leaves idle is lent",
                )


def _given(tier: TierSpec) -> str:
    return "" if "share" in tier.model_fields_set else " (default)"


def _pools(doc: FleetDoc) -> Iterator[Violation]:
    tiers = doc.spec.tiers
    for name in TIERS:
        pool = tiers.of(name).workers
        if pool.max < pool.min:
            loc: Loc = ("spec", "tiers", name, "workers", "max")
            yield Violation(loc, f"is less than workers.min, which is {pool.min}", "make it at least as many")
    if not any(tiers.of(name).workers.min for name in TIERS):
        yield Violation(("spec", "tiers"), "leave the fleet without a worker", "give one tier workers: {min: 1}, such as standard")


def _tier_rules(doc: FleetDoc) -> Iterator[Violation]:
    catch_all: int | None = None
    earlier: list[TierRule] = []
    names = [controller.name for controller in doc.spec.controllers]
    for index, rule in enumerate(doc.spec.tiers.rules):
        loc: Loc = ("spec", "tiers", "rules", index)
        if (rule.tier is None) == (rule.tier_from is None):
            message = "has neither tier nor tierFrom" if rule.tier is None else "has both tier and tierFrom"
            yield Violation(loc, message, f"write tier: one of {', '.join(TIERS)}, or tierFrom: {{label: KEY}}")
        if rule.tier_from is not None:
            source = rule.tier_from
            places = [place for place in (source.label, source.annotation, source.field) if place is not None]
            if len(places) != 1:
                yield Violation((*loc, "tierFrom"), "must name exactly one place", "write label, annotation or field")
        if catch_all is not None:
            message = f"is never reached: spec.tiers.rules[{catch_all}] holds for every object"
            yield Violation(loc, message, "put it before that rule, or remove it")
        elif any(other.when == rule.when and other.tier is not None for other in earlier):
            yield Violation(loc, "is never reached: an earlier rule has the same conditions", "remove one of them")
        if rule.when.always and rule.tier is not None and catch_all is None:
            catch_all = index
        yield from _matchable(rule.when, (*loc, "when"))
        for place, wanted in enumerate(rule.when.controller):
            known = [name for name in names if name]
            if len(known) == len(names) and wanted not in known:
                close = nearest(wanted, known)
                hint = f"did you mean {close!r}?" if close else f"controllers are: {', '.join(known)}"
                yield Violation((*loc, "when", "controller", place), "is no controller of this fleet", hint)
        clusters = doc.spec.clusters
        selector = rule.when.cluster
        if selector and not any(
            all(cluster.all_labels.get(key) in values for key, values in selector.items()) for cluster in clusters
        ):
            loc_cluster = (*loc, "when", "cluster")
            yield Violation(loc_cluster, "matches no cluster of the fleet", _selector_remedy(doc, selector))
        earlier.append(rule)


def _matchable(when: RuleWhen, loc: Loc) -> Iterator[Violation]:
    for key, values in when.label.items():
        yield from _matchable_label((*loc, "label", key), key, values, wildcard=True)
    for name, conditions in (("annotation", when.annotation), ("field", when.field)):
        for key, values in conditions.items():
            if not values:
                yield Violation((*loc, name, key), "can't match: it lists no value", "list a value, or '*' for any")
    for key in when.field:
        if any(not part for part in key.split(".")):
            yield Violation((*loc, "field", key), "can't match: it is no path", "write it as spec.some.field")
    for place, namespace in enumerate(when.namespace):
        text = namespace.removesuffix("*").rstrip("-") if namespace.endswith("*") else namespace
        if not (text == "" and namespace) and not _is_namespace(text):
            where = (*loc, "namespace", place)
            yield Violation(where, "can't match: it is no name of a namespace", "use a-z, 0-9 and '-'; '*' only last")


def _is_namespace(text: str) -> bool:
    return 0 < len(text) <= 63 and all(char.isdigit() or "a" <= char <= "z" or char == "-" for char in text)


def _matchable_label(loc: Loc, key: str, values: list[str], wildcard: bool = False) -> Iterator[Violation]:
    if not is_label_key(key):
        yield Violation(loc, "can't match: it is not a label key", "write it as name or prefix.example/name")
    if not values:
        yield Violation(loc, "can't match: it lists no value", "list a value" + (", or '*' for any" if wildcard else ""))
    for place, value in enumerate(values):
        if not is_label_value(value) and not (wildcard and value == "*"):
            where = (*loc, place) if len(values) > 1 else loc
            remedy = "labels hold at most 63 letters, digits, '-', '_', '.'"
            yield Violation(where, f"can't match: {value!r} is not a label value", remedy)


def _objectives(doc: FleetDoc) -> Iterator[Violation]:
    seen: dict[tuple[str, str | None, float], int] = {}
    names = [controller.name for controller in doc.spec.controllers]
    for index, promise in enumerate(doc.spec.slo):
        loc: Loc = ("spec", "slo", index)
        if not 0 < promise.objective < 1:
            message = "leaves no error budget" if promise.objective else "is 0 %"
            yield Violation((*loc, "objective"), message, "write a share between 0 % and 100 %, such as 99.9%")
        first = seen.setdefault((promise.controller, promise.tier, promise.within), index)
        if first != index:
            message = f"is for the same controller, tier and threshold as spec.slo[{first}]"
            yield Violation(loc, message, "keep one of them")
        known = [name for name in names if name]
        if promise.controller != "*" and len(known) == len(names) and promise.controller not in known:
            close = nearest(promise.controller, known)
            hint = f"did you mean {close!r}?" if close else f"controllers are: {', '.join(known)}"
            yield Violation((*loc, "controller"), "is no controller of this fleet", hint)


def _pauses(doc: FleetDoc) -> Iterator[Violation]:
    clusters = [cluster.name for cluster in doc.spec.clusters]
    named = [controller.name for controller in doc.spec.controllers]
    known = [name for name in named if name]
    for field, names, candidates, complete in (
        ("clusters", doc.spec.paused.clusters, clusters, True),
        ("controllers", doc.spec.paused.controllers, known, len(known) == len(named)),
    ):
        for index, name in enumerate(names):
            loc: Loc = ("spec", "paused", field, index)
            if name in names[:index]:
                yield Violation(loc, "is named twice", "keep one of them")
            elif complete and name not in candidates:
                close = nearest(name, candidates)
                hint = f"did you mean {close!r}?" if close else f"its {field} are: {', '.join(candidates)}"
                yield Violation(loc, f"is no {field.removesuffix('s')} of this fleet", hint)


def _permits(doc: FleetDoc) -> Iterator[Violation]:
    leader = doc.spec.leader
    permit = leader.permit
    if permit < 2:
        yield Violation(
            ("spec", "leader", "permit"), "is shorter than 2s: permits are renewed once a second", "make it 2s or longer"
        )
    for index, cluster in enumerate(doc.spec.clusters):
        if cluster.request_timeout >= permit and "request_timeout" in cluster.model_fields_set:
            yield Violation(
                ("spec", "clusters", index, "requestTimeout"),
                f"is not shorter than leader.permit ({format_duration(permit)}): a write could outlast its permit",
                "lower it, or raise spec.leader.permit",
            )
    default = next((c for c in doc.spec.clusters if "request_timeout" not in c.model_fields_set), None)
    if default is not None and 2 <= permit <= default.request_timeout:
        yield Violation(
            ("spec", "leader", "permit"),
            f"is not longer than the default requestTimeout of clusters ({format_duration(default.request_timeout)}): "
            "a write could outlast its permit",
            "raise it, or set a shorter requestTimeout on each cluster",
        )
    if leader.backoff.max < leader.backoff.min:
        yield Violation(("spec", "leader", "backoff", "max"), "is shorter than backoff.min", "make it at least as long")
    locks = [
        name
        for name, given in (("ray", leader.lock.ray), ("configMap", leader.lock.config_map), ("lease", leader.lock.lease))
        if given is not None
    ]
    if len(locks) > 1:
        yield Violation(("spec", "leader", "lock"), f"has {' and '.join(locks)}", "keep one of them")
    lease = leader.lock.lease
    if lease and lease.renew * 2 > lease.duration:
        yield Violation(
            ("spec", "leader", "lock", "lease", "renew"),
            f"is more than half of the lease's duration ({format_duration(lease.duration)})",
            "renew at least twice as often as the lease expires",
        )
    elif lease and lease.renew * 2 > permit:
        yield Violation(
            ("spec", "leader", "lock", "lease", "renew"),
            f"is more than half of leader.permit ({format_duration(permit)}): permits last no longer than what a renewal covers",
            "renew at least twice as often, or raise spec.leader.permit",
        )


_RULES: tuple[Callable[[FleetDoc], Iterator[Violation]], ...] = (
    _unique_clusters,
    _one_way_in,
    _one_hub,
    _same_cluster_twice,
    _controllers,
    _shares,
    _pools,
    _tier_rules,
    _objectives,
    _pauses,
    _permits,
)

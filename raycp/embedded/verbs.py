"""The verbs of resources: from a routed and authorized request (``server``) to an answer."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from raycp.embedded import forms, lists
from raycp.embedded.access import Access, Attributes
from raycp.embedded.auth import User
from raycp.embedded.deletion import Deletion
from raycp.embedded.errors import StatusError, bad_request, method_not_allowed, not_acceptable, not_found, too_large_version
from raycp.embedded.escalation import Escalation
from raycp.embedded.faults import Faults
from raycp.embedded.httpio import Answer, HttpConnection, HttpRequest, HttpResponse, Stream, header_line
from raycp.embedded.options import delete_options, first, list_options, parse_query, revision, write_options
from raycp.embedded.patches import duplicates_text, parse_apply
from raycp.embedded.pipeline import APPLY, Draft, Pipeline, Wrote
from raycp.embedded.podsecurity.admission import PodSecurity
from raycp.embedded.policies.constraints import AdmissionRequest
from raycp.embedded.policies.mutations import MutatingPolicies
from raycp.embedded.policies.verdicts import ValidatingPolicies
from raycp.embedded.recorder import Recorder
from raycp.embedded.registry import ServedResource
from raycp.embedded.store import ObjectStore, StoredObject
from raycp.embedded.strategy import body_decoder
from raycp.embedded.strategy.metadata import finalizer_warnings
from raycp.embedded.watch import FrameCache, Watch
from raycp.embedded.webhooks import Webhooks

MIN_WATCH = 1800.0
"""least seconds of a watch without a timeout; up to twice as long at random, as with --min-request-timeout"""
PATCH_TRIES = 5
"""how often a patch is retried when the object changes meanwhile, as in apiserver"""


@dataclass(slots=True)
class ResourceRequest:
    """A routed request. ``sub`` is the subresource, ``verb`` the authorized Kubernetes verb."""

    request: HttpRequest
    user: User
    resource: ServedResource
    ns: str
    name: str
    sub: str
    verb: str

    def media_type(self) -> str:
        return self.request.header(b"content-type")


class WatchStream(Stream):
    """A watch on a connection."""

    def __init__(self, verbs: "Verbs", call: ResourceRequest, form: forms.Form, include: str) -> None:
        self._verbs = verbs
        self._call = call
        self._connection: HttpConnection | None = None
        options = list_options(call.request.query)
        self.content_type = form.content_type
        self._lifetime = float(options.timeout) if options.timeout else MIN_WATCH + verbs.rng.random() * MIN_WATCH
        self._watch = Watch(
            verbs.store, verbs.frames, call.resource, call.ns, options, form, include, verbs.pipeline.times.wall, self
        )

    def start(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._verbs.watches.add(self._watch)
        self._verbs.faults.opened(self._watch, self._call.request.path)
        self._watch.start(self._lifetime)

    def closed(self) -> None:
        self._verbs.watches.discard(self._watch)
        self._verbs.faults.closed(self._watch)
        self._watch.close()

    def writable(self) -> None:
        self._watch.resume()

    def send(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.transport.write(data)

    def full(self) -> bool:
        return self._connection is None or self._connection.paused

    def end(self) -> None:
        self._verbs.watches.discard(self._watch)
        self._verbs.faults.closed(self._watch)
        if self._connection is not None:
            self._connection.finish_stream()


class Verbs:
    """Handles get, list, watch, create, update, patch, delete, deletecollection of stored resources."""

    def __init__(
        self,
        store: ObjectStore,
        pipeline: Pipeline,
        faults: Faults,
        webhooks: Webhooks,
        policies: ValidatingPolicies,
        mutating: MutatingPolicies,
        security: PodSecurity,
        recorder: Recorder,
        access: Access,
    ) -> None:
        self._access = access
        self._escalation = Escalation(access)
        self.store = store
        self.pipeline = pipeline
        self.deletion = Deletion(pipeline)
        self.faults = faults
        self.webhooks = webhooks
        self.policies = policies
        self.mutating = mutating
        self.security = security
        self.recorder = recorder
        self.frames = FrameCache()
        self.watches: set[Watch] = set()
        self.rng = pipeline.rng

    def handle(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        """Dispatch by verb. Raises ``StatusError``."""
        if call.verb not in call.resource.info.verbs and not call.sub:
            raise method_not_allowed()
        match call.verb:
            case "get":
                return self._get(call)
            case "list":
                return self._list(call)
            case "watch":
                return self._watch(call)
            case "create":
                return self._create(call)
            case "update":
                return self._update(call)
            case "patch":
                return self._patch(call)
            case "delete":
                return self._delete(call)
            case _:
                return self._delete_collection(call)

    # ---- reads

    def _get(self, call: ResourceRequest) -> Answer:
        form = self._form(call)
        asked = revision(first(parse_query(call.request.query), "resourceVersion")) if call.request.query else None
        if asked is not None and asked > self.store.revision:
            raise too_large_version(asked, self.store.revision)
        record = call.resource.table.get(call.ns, call.name)
        if record is None:
            raise not_found(call.resource.info, call.name)
        return self.shown(call, form, record)

    def _list(self, call: ResourceRequest) -> Answer:
        form = self._form(call)
        options = list_options(call.request.query)
        found = lists.find(call.resource, call.ns, options, self.store.revision)
        include = first(parse_query(call.request.query), "includeObject")
        body = forms.many(call.resource, form, found, include, self.pipeline.times.wall())
        return self._response(call, form, 200, body)

    def _watch(self, call: ResourceRequest) -> Answer:
        options = list_options(call.request.query)
        form = self._form(call, tables=not (options.initial_events and options.bookmarks))
        if form.yaml:
            raise not_acceptable(forms.STREAMED)  # it has no frames: apiserver has no stream serializer for it
        include = first(parse_query(call.request.query), "includeObject")
        return WatchStream(self, call, form, include)

    # ---- writes

    def _create(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        request = call.request
        form = self._form(call)
        options = write_options(request.query, request.header(b"user-agent"), "CreateOptions", False)
        obj, warnings = call.resource.strategy.decode(request.body, call.media_type(), options.validation)
        return self.admitted(call, form, self.pipeline.draft_create(call.resource, call.ns, obj, options), warnings)

    def _update(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        request = call.request
        form = self._form(call)
        options = write_options(request.query, request.header(b"user-agent"), "UpdateOptions", False)
        obj, warnings = call.resource.strategy.decode(request.body, call.media_type(), options.validation)
        draft = self.pipeline.draft_update(call.resource, call.ns, call.name, obj, options, call.sub)
        return self.admitted(call, form, draft, warnings)

    def _patch(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        request = call.request
        form = self._form(call)
        kind = call.media_type().partition(";")[0].strip().lower()
        apply = kind in APPLY
        warnings: list[str] = []
        options = write_options(request.query, request.header(b"user-agent"), "PatchOptions", apply)
        pipeline = self.pipeline
        if apply:
            patch, twice = parse_apply(request.body)
            if twice and options.validation == "Strict":
                raise bad_request("error strict decoding YAML: " + duplicates_text(twice))
            if options.validation == "Warn":
                warnings += [duplicates_text(twice)] if twice else []

            def draft() -> Draft:
                return pipeline.draft_apply(call.resource, call.ns, call.name, patch, options, call.sub, warnings)

        else:

            def draft() -> Draft:
                return pipeline.draft_patch(call.resource, call.ns, call.name, kind, request.body, options, call.sub, warnings)

        return self.admitted(call, form, draft(), warnings, draft)

    def admitted(
        self,
        call: ResourceRequest,
        form: forms.Form,
        draft: Draft,
        warnings: list[str],
        again: Callable[[], Draft] | None = None,
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Run the matching policies and webhooks on a draft and finish it. ``again`` makes a new draft of a patch."""
        if self.mutating.any:
            draft = self.mutating.mutate(draft, call.user)
        if self.webhooks.any and self.webhooks.match(draft):
            return self._by_webhooks(call, form, draft, warnings, again)
        return self.wrote(call, form, self.finish(call, draft, warnings), warnings, draft.options.dry_run)

    def finish(self, call: ResourceRequest, draft: Draft, warnings: list[str]) -> Wrote:
        """Commit what webhooks have left of a draft, if the user may make it: an update that creates needs ``create`` too, and what
        grants permissions needs them."""
        if draft.old is None and call.verb != "create":
            info, (ns, name) = call.resource.info, (call.ns, call.name)
            self._access.check(call.user, Attributes("create", info.group, info.version, info.plural, call.sub, ns, name))
        self._escalation.check(call.user, draft, call.name)
        wrote = self.pipeline.finish(self.guarded(draft, call.user, warnings))
        if draft.resource.info.crd is not None and not call.sub:
            warnings += finalizer_warnings(draft.obj["metadata"], draft.old and draft.old["metadata"])
        return wrote

    def guarded(self, draft: Draft, user: User, warnings: list[str], sub: str = "") -> Draft:
        """The draft, under validating admission if anything may refuse it. ``sub``: a subresource that writes the whole object."""
        security, policies = self.security, self.policies
        if not (security.any or policies.any or draft.resource is security.namespaces):
            return draft
        secured = security.concerns(draft.resource, draft.obj)
        if not policies.any and not secured:
            return draft

        def guard(made: Draft) -> None:
            at = made.subresource or sub
            if secured:
                security.admit(made.resource, made.obj, made.old, at, warnings)
            if policies.any:
                operation = "CREATE" if made.old is None else "UPDATE"
                request = AdmissionRequest(made.resource, operation, at, made.obj, made.old, user, made.options.dry_run)
                policies.admit(request, warnings)

        return draft._replace(guard=guard)

    def may_delete(self, resource: ServedResource, record: StoredObject, user: User, dry_run: bool, warnings: list[str]) -> None:
        """Validating admission of a deletion. Raises ``StatusError``."""
        if self.policies.any:
            request = AdmissionRequest(resource, "DELETE", "", None, resource.read(record), user, dry_run)
            self.policies.admit(request, warnings)

    async def _by_webhooks(
        self, call: ResourceRequest, form: forms.Form, draft: Draft, warnings: list[str], again: Callable[[], Draft] | None
    ) -> Answer:
        for _ in range(PATCH_TRIES):
            admitted = await self.webhooks.admit(draft, call.user, warnings)
            old = draft.record
            if again is None or old is None or call.resource.table.get(old.ns, old.name) is old:
                break
            # the object changed while webhooks ran: apply the patch to the current state
            draft = self.mutating.mutate(again(), call.user)
        return self.wrote(call, form, self.finish(call, admitted, warnings), warnings, draft.options.dry_run)

    def wrote(self, call: ResourceRequest, form: forms.Form, wrote: Wrote, warnings: list[str], dry_run: bool) -> Answer:
        """The answer of a create, update or patch."""
        record = wrote.record
        if not dry_run:
            self.record(call, record)
        status = 201 if wrote.created else 200
        return self.shown(call, form, record, status, warnings)

    def record(self, call: ResourceRequest, record: StoredObject) -> None:
        """Add a write to the recorder."""
        info = call.resource.info
        resource = f"{info.name}/{call.sub}" if call.sub else info.name
        self.recorder.add(
            call.verb,
            resource,
            record.ns,
            record.name,
            record.uid,
            record.rv,
            call.user.name,
            self.pipeline.times.clock.wall(),
            call.request.headers,
        )

    # ---- deletes

    def _delete(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        form = self._form(call)
        options = self._delete_options(call)
        if self.webhooks.any:
            record = call.resource.table.get(call.ns, call.name)
            if record is not None and self.webhooks.match_delete(call.resource, record):
                return self._delete_by_webhooks(call, form, record)
        return self._finish_delete(call, form, options)

    async def _delete_by_webhooks(self, call: ResourceRequest, form: forms.Form, record: StoredObject) -> Answer:
        options = self._delete_options(call)
        warnings: list[str] = []
        await self.webhooks.admit_delete(call.resource, record, call.user, options.dry_run, warnings)
        return self._finish_delete(call, form, options, warnings)

    def _finish_delete(self, call: ResourceRequest, form: forms.Form, options: Any, warnings: list[str] | None = None) -> Answer:
        warnings = [] if warnings is None else warnings
        warnings += self.deletion.warnings(call.resource, options)
        there = call.resource.table.get(call.ns, call.name) if self.policies.any else None
        if there is not None:
            self.may_delete(call.resource, there, call.user, options.dry_run, warnings)
        record, removed = self.deletion.delete(call.resource, call.ns, call.name, options)
        if not options.dry_run:
            self.record(call, record)
        body = self.deletion.answer(call.resource, record, removed)
        if body is None:
            return self.shown(call, form, record, 200, warnings)
        return self._response(call, forms.PLAIN, 200, body, warnings)

    def _delete_collection(self, call: ResourceRequest) -> Answer | Coroutine[Any, Any, Answer]:
        form = self._form(call)
        options = self._delete_options(call)
        found = lists.find(call.resource, call.ns, list_options(call.request.query), self.store.revision)
        warnings = self.deletion.warnings(call.resource, options)
        if self.webhooks.any:
            asked = [record for record in found.records if self.webhooks.match_delete(call.resource, record)]
            if asked:
                return self._delete_collection_by_webhooks(call, form, options, found, asked, warnings)
        return self._finish_collection(call, form, options, found, warnings)

    async def _delete_collection_by_webhooks(
        self,
        call: ResourceRequest,
        form: forms.Form,
        options: Any,
        found: lists.Listed,
        asked: list[StoredObject],
        warnings: list[str],
    ) -> Answer:
        for record in asked:
            await self.webhooks.admit_delete(call.resource, record, call.user, options.dry_run, warnings)
        return self._finish_collection(call, form, options, found, warnings)

    def _finish_collection(
        self, call: ResourceRequest, form: forms.Form, options: Any, found: lists.Listed, warnings: list[str]
    ) -> Answer:
        if self.policies.any:
            for record in found.records:
                self.may_delete(call.resource, record, call.user, options.dry_run, warnings)
        found.records = self.deletion.collection(call.resource, found.records, options)
        if not options.dry_run:
            for record in found.records:
                self.record(call, record)
        found.revision = self.store.revision
        body = forms.many(call.resource, form, found, "", self.pipeline.times.wall())
        return self._response(call, form, 200, body, warnings)

    def _delete_options(self, call: ResourceRequest) -> Any:
        request = call.request
        decoded = None
        kind = call.media_type().partition(";")[0].strip().lower()
        if request.body.strip() and kind not in ("", "application/json"):
            decoded, _ = body_decoder("", "v1", "DeleteOptions").decode(request.body, kind, "Ignore")
        return delete_options(parse_query(request.query), request.body, decoded)

    # ---- answers

    def _form(self, call: ResourceRequest, tables: bool = True) -> forms.Form:
        accept = call.request.headers.get(b"accept")
        if accept is None or accept == b"application/json":
            return forms.PLAIN
        form = forms.negotiate(accept.decode("latin-1"), tables=tables)
        if form.protobuf and not form.kind and call.resource.info.crd is not None:
            raise not_acceptable(forms.ACCEPTED)  # custom resources have no protobuf; it is refused before anything is written
        return form

    def shown(
        self, call: ResourceRequest, form: forms.Form, record: StoredObject, status: int = 200, warnings: list[str] | tuple[()] = ()
    ) -> HttpResponse:
        """One object as the answer."""
        if not form.kind:
            body = call.resource.present(record)
        else:
            include = first(parse_query(call.request.query), "includeObject")
            body = forms.one(call.resource, form, record, include, self.pipeline.times.wall())
        return self._response(call, form, status, body, warnings)

    def _response(
        self, call: ResourceRequest, form: forms.Form, status: int, body: bytes, warnings: list[str] | tuple[()] = ()
    ) -> HttpResponse:
        headers = b""
        if call.resource.deprecated:
            headers = header_line("Warning", f'299 - "{call.resource.deprecated}"')
        if warnings:
            headers += warning_headers(warnings)
        if form.yaml:
            return HttpResponse(status, to_yaml(body), "application/yaml", headers)
        if form.pretty or "pretty=" in call.request.query:
            body = msgspec.json.format(body, indent=2) + b"\n"
        return HttpResponse(status, body, "application/json", headers)

    def close(self) -> None:
        """End all watches."""
        for watch in list(self.watches):
            watch.stop()


def warning_headers(warnings: list[str] | tuple[()]) -> bytes:
    """The headers of an answer that carry its warnings."""
    return b"".join(header_line("Warning", f"299 - {msgspec.json.encode(text).decode()}") for text in warnings)


def to_yaml(body: bytes) -> bytes:
    """JSON as YAML, for clients that prefer YAML."""
    import yaml

    made: str = yaml.dump(msgspec.json.decode(body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True)
    return made.encode()


__all__ = ["ResourceRequest", "StatusError", "Verbs"]

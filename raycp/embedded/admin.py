"""``/raycp/admin``: recorded writes, faults, statistics and compaction, for holders of the administrator's token.

- ``GET /raycp/admin/writes?resource=&verb=&after=``: the recorded writes, without the first ``after`` of the cluster;
- ``GET``, ``PUT``, ``POST``, ``DELETE /raycp/admin/faults``: list, replace, add, clear (JSON, as in the fleet file);
- ``GET /raycp/admin/stats``: objects, watches, revision;
- ``POST /raycp/admin/compact``: drop the watch history.
"""

from typing import Any

import msgspec

from raycp.embedded.auth import MASTERS, User
from raycp.embedded.errors import bad_request, forbidden_path, method_not_allowed, no_such_path
from raycp.embedded.faults import Faults
from raycp.embedded.httpio import HttpRequest, HttpResponse
from raycp.embedded.options import first, parse_query
from raycp.embedded.verbs import Verbs


class Admin:
    """Handles the admin paths."""

    def __init__(self, verbs: Verbs, faults: Faults) -> None:
        self._verbs = verbs
        self._faults = faults

    def handle(self, request: HttpRequest, user: User) -> HttpResponse:
        """Raises ``StatusError``."""
        if MASTERS not in user.groups:
            raise forbidden_path(user.name, request.method.lower(), request.path)
        parts = request.path.strip("/").split("/")[2:]
        query = parse_query(request.query)
        match parts:
            case ["writes"] if request.method == "GET":
                after = first(query, "after") or "0"
                if not after.isdigit():
                    raise bad_request(f"after={after!r} is not a number of writes")
                body = self._verbs.recorder.json(first(query, "resource"), first(query, "verb"), int(after))
                return HttpResponse(200, body)
            case ["stats"] if request.method == "GET":
                return HttpResponse(200, msgspec.json.encode(self.stats()))
            case ["compact"] if request.method == "POST":
                self._verbs.store.compact()
                return HttpResponse(200, b"{}")
            case ["faults", *rest]:
                return self._set_faults(request, rest)
        raise no_such_path()

    def stats(self) -> dict[str, Any]:
        """Figures of the store and its watches."""
        store = self._verbs.store
        return {
            "revision": store.revision,
            "objects": {f"{k.plural}.{k.group}".rstrip("."): t.count for k, t in store.tables.items() if t.count},
            "watches": len(self._verbs.watches),
            "historyBytes": store.superseded,
            "writes": self._verbs.recorder.count,
        }

    def _set_faults(self, request: HttpRequest, rest: list[str]) -> HttpResponse:
        from pydantic import ValidationError

        from raycp.config.embedded import FaultSpec

        faults = self._faults
        if request.method == "DELETE":
            try:
                faults.clear(int(rest[0]) if rest else None)
            except (KeyError, ValueError):
                raise no_such_path() from None
        elif request.method in ("PUT", "POST"):
            try:
                given = msgspec.json.decode(request.body)
                specs = [FaultSpec.model_validate(each) for each in (given if isinstance(given, list) else [given])]
            except (msgspec.DecodeError, ValidationError) as error:
                raise bad_request(str(error)) from None
            if request.method == "PUT":
                faults.set(specs)
            else:
                for spec in specs:
                    faults.add(spec)
        elif request.method != "GET":
            raise method_not_allowed()
        return HttpResponse(200, msgspec.json.encode(faults.describe()))

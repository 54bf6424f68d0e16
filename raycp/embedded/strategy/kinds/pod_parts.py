"""The parts of a Pod's spec that have a subresource of their own: ``ephemeralcontainers`` and ``resize``.

A write through them changes and validates that part alone (``pkg/registry/core/pod/strategy.go``).
"""

from raycp.embedded.strategy.causes import Errors, forbidden, wrong
from raycp.embedded.strategy.rules import Object

PARTS = frozenset({"ephemeralcontainers", "resize"})


def only_the_part(new: Object, old: Object, subresource: str) -> Object:
    """The spec of ``old`` with the fields that the subresource may change from ``new``."""
    asked, spec = new.get("spec") or {}, dict(old.get("spec") or {})
    if subresource == "ephemeralcontainers":
        if asked.get("ephemeralContainers"):
            spec["ephemeralContainers"] = asked["ephemeralContainers"]
        else:
            spec.pop("ephemeralContainers", None)
        return spec
    for group in ("containers", "initContainers"):
        there = {one.get("name"): one for one in asked.get(group) or ()}
        if spec.get(group):
            spec[group] = [_resized(one, there.get(one.get("name"), one)) for one in spec[group]]
    return spec


def _resized(old: Object, new: Object) -> Object:
    kept = {**old, "resources": new.get("resources", {})}
    if "resizePolicy" in new:
        kept["resizePolicy"] = new["resizePolicy"]
    return kept


def validate_part(new: Object, old: Object, subresource: str, errors: Errors) -> None:
    """Validate that ephemeral containers have unique names and that no existing one is removed or changed."""
    if subresource != "ephemeralcontainers":
        return
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    taken = {one.get("name") for group in ("containers", "initContainers") for one in spec.get(group) or ()}
    there: dict[str, Object] = {}
    for index, one in enumerate(spec.get("ephemeralContainers") or ()):
        name = one.get("name", "")
        if name in taken or name in there:
            errors.append(wrong(f"spec.ephemeralContainers[{index}].name", name, "the name is in use"))
        there[name] = one
    for one in before.get("ephemeralContainers") or ():
        found = there.get(one.get("name", ""))
        if found is None:
            text = "existing ephemeral containers may not be removed"
            errors.append(forbidden("spec.ephemeralContainers", f'{text} ("{one.get("name")}")'))
        elif found != one:
            text = "existing ephemeral containers may not be changed"
            errors.append(forbidden("spec.ephemeralContainers", f'{text} ("{one.get("name")}")'))

"""Label selectors: the text that ``kubectl -l`` takes, as a predicate."""

import re
from collections.abc import Mapping

import msgspec

_REQUIREMENT = re.compile(
    r"""\s*(?:
      (?P<absent>!)\s*(?P<absent_key>[\w./-]+)
    | (?P<set_key>[\w./-]+)\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\)
    | (?P<key>[\w./-]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[\w.-]*))?
    )\s*(?:,|$)""",
    re.VERBOSE,
)


class Requirement(msgspec.Struct, frozen=True):
    """``op`` is ``in``, ``notin``, ``exists`` or ``absent``. ``!=`` and ``notin`` also match objects without the label."""

    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        if self.op == "in":
            return found is not None and found in self.values
        if self.op == "notin":
            return found is None or found not in self.values
        return (found is not None) == (self.op == "exists")


class Selector(msgspec.Struct, frozen=True):
    """All ``requirements`` must match; without any, every object does."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """``a=b,c!=d,e in (f,g),h notin (i),j,!k``. Raises ``ValueError`` with the text that cannot be parsed."""
        found: list[Requirement] = []
        at = 0
        while at < len(text.rstrip()):
            match = _REQUIREMENT.match(text, at)
            if match is None:
                raise ValueError(f"label selector {text!r}: cannot read {text[at:]!r}")
            at = match.end()
            if match["absent"]:
                found.append(Requirement(match["absent_key"], "absent"))
            elif match["set_key"]:
                values = frozenset(value.strip() for value in match["values"].split(","))
                found.append(Requirement(match["set_key"], match["set_op"], values))
            elif match["op"]:
                op = "notin" if match["op"] == "!=" else "in"
                found.append(Requirement(match["key"], op, frozenset((match["value"],))))
            else:
                found.append(Requirement(match["key"], "exists"))
        return cls(tuple(found))

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    def equality(self) -> tuple[str, str] | None:
        """A label that every matching object has, for a look-up in the label index; None if there is no such label."""
        for requirement in self.requirements:
            if requirement.op == "in" and len(requirement.values) == 1:
                return requirement.key, next(iter(requirement.values))
        return None

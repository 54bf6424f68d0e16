"""What CEL's operators and functions take and give: the standard ones, and the libraries of kube-apiserver 1.36.

As in ``apiserver/pkg/cel/environment/base.go``, ``apiserver/pkg/cel/library`` and cel-go's ``common/stdlib`` and ``ext``. A line is
``name(arguments) -> result``; that of a method has its receiver before the dot.
"""

import re
from typing import NamedTuple

from raycp.embedded.strategy.cel.types import Type

_NUMBERS = ("int", "uint", "double")
_ORDERED = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")

_OPERATORS = """
_==_(A, A) -> bool
_!=_(A, A) -> bool
!_(bool) -> bool
-_(int) -> int
-_(double) -> double
_?_:_(bool, A, A) -> A
_+_(string, string) -> string
_+_(bytes, bytes) -> bytes
_+_(list(A), list(A)) -> list(A)
_+_(duration, duration) -> duration
_+_(timestamp, duration) -> timestamp
_+_(duration, timestamp) -> timestamp
_-_(duration, duration) -> duration
_-_(timestamp, timestamp) -> duration
_-_(timestamp, duration) -> timestamp
_%_(int, int) -> int
_%_(uint, uint) -> uint
@in(A, list(A)) -> bool
@in(A, map(A, B)) -> bool
_[_](list(A), int) -> A
_[_](map(A, B), A) -> B
_[_](optional_type(list(A)), int) -> optional_type(A)
_[_](optional_type(map(A, B)), A) -> optional_type(B)
_[?_](list(A), int) -> optional_type(A)
_[?_](map(A, B), A) -> optional_type(B)
_[?_](optional_type(list(A)), int) -> optional_type(A)
_[?_](optional_type(map(A, B)), A) -> optional_type(B)
"""

_STANDARD = """
size(string) -> int
size(bytes) -> int
size(list(A)) -> int
size(map(A, B)) -> int
string.size() -> int
bytes.size() -> int
list(A).size() -> int
map(A, B).size() -> int
int(int) -> int
int(uint) -> int
int(double) -> int
int(string) -> int
int(timestamp) -> int
int(duration) -> int
uint(uint) -> uint
uint(int) -> uint
uint(double) -> uint
uint(string) -> uint
double(double) -> double
double(int) -> double
double(uint) -> double
double(string) -> double
string(string) -> string
string(bool) -> string
string(int) -> string
string(uint) -> string
string(double) -> string
string(bytes) -> string
string(timestamp) -> string
string(duration) -> string
string(net.IP) -> string
string(net.CIDR) -> string
bool(bool) -> bool
bool(string) -> bool
bytes(bytes) -> bytes
bytes(string) -> bytes
type(A) -> type(A)
dyn(A) -> dyn
timestamp(timestamp) -> timestamp
timestamp(string) -> timestamp
timestamp(int) -> timestamp
duration(duration) -> duration
duration(string) -> duration
string.startsWith(string) -> bool
string.endsWith(string) -> bool
string.contains(string) -> bool
string.matches(string) -> bool
matches(string, string) -> bool
duration.getHours() -> int
duration.getMinutes() -> int
duration.getSeconds() -> int
duration.getMilliseconds() -> int
optional.of(A) -> optional_type(A)
optional.ofNonZeroValue(A) -> optional_type(A)
optional.none() -> optional_type(A)
optional_type(A).hasValue() -> bool
optional_type(A).value() -> A
optional_type(A).or(optional_type(A)) -> optional_type(A)
optional_type(A).orValue(A) -> A
"""

_EXTENSIONS = """
string.charAt(int) -> string
string.indexOf(string) -> int
string.indexOf(string, int) -> int
string.lastIndexOf(string) -> int
string.lastIndexOf(string, int) -> int
string.lowerAscii() -> string
string.upperAscii() -> string
string.replace(string, string) -> string
string.replace(string, string, int) -> string
string.split(string) -> list(string)
string.split(string, int) -> list(string)
string.substring(int) -> string
string.substring(int, int) -> string
string.trim() -> string
string.format(list(dyn)) -> string
strings.quote(string) -> string
list(string).join() -> string
list(string).join(string) -> string
sets.contains(list(A), list(A)) -> bool
sets.equivalent(list(A), list(A)) -> bool
sets.intersects(list(A), list(A)) -> bool
list(A).indexOf(A) -> int
list(A).lastIndexOf(A) -> int
list(A).slice(int, int) -> list(A)
list(dyn).flatten() -> list(dyn)
list(dyn).flatten(int) -> list(dyn)
list(A).distinct() -> list(A)
list(A).reverse() -> list(A)
lists.range(int) -> list(int)
string.find(string) -> string
string.findAll(string) -> list(string)
string.findAll(string, int) -> list(string)
url(string) -> kubernetes.URL
isURL(string) -> bool
kubernetes.URL.getScheme() -> string
kubernetes.URL.getHost() -> string
kubernetes.URL.getHostname() -> string
kubernetes.URL.getPort() -> string
kubernetes.URL.getEscapedPath() -> string
kubernetes.URL.getQuery() -> map(string, list(string))
ip(string) -> net.IP
isIP(string) -> bool
ip.isCanonical(string) -> bool
net.IP.family() -> int
net.IP.isUnspecified() -> bool
net.IP.isLoopback() -> bool
net.IP.isLinkLocalMulticast() -> bool
net.IP.isLinkLocalUnicast() -> bool
net.IP.isGlobalUnicast() -> bool
cidr(string) -> net.CIDR
isCIDR(string) -> bool
net.CIDR.containsIP(string) -> bool
net.CIDR.containsIP(net.IP) -> bool
net.CIDR.containsCIDR(string) -> bool
net.CIDR.containsCIDR(net.CIDR) -> bool
net.CIDR.ip() -> net.IP
net.CIDR.prefixLength() -> int
net.CIDR.masked() -> net.CIDR
quantity(string) -> kubernetes.Quantity
isQuantity(string) -> bool
kubernetes.Quantity.sign() -> int
kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) -> bool
kubernetes.Quantity.isLessThan(kubernetes.Quantity) -> bool
kubernetes.Quantity.compareTo(kubernetes.Quantity) -> int
kubernetes.Quantity.asApproximateFloat() -> double
kubernetes.Quantity.asInteger() -> int
kubernetes.Quantity.isInteger() -> bool
kubernetes.Quantity.add(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity.add(int) -> kubernetes.Quantity
kubernetes.Quantity.sub(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity.sub(int) -> kubernetes.Quantity
semver(string) -> kubernetes.Semver
semver(string, bool) -> kubernetes.Semver
isSemver(string) -> bool
isSemver(string, bool) -> bool
kubernetes.Semver.isGreaterThan(kubernetes.Semver) -> bool
kubernetes.Semver.isLessThan(kubernetes.Semver) -> bool
kubernetes.Semver.compareTo(kubernetes.Semver) -> int
kubernetes.Semver.major() -> int
kubernetes.Semver.minor() -> int
kubernetes.Semver.patch() -> int
format.named(string) -> optional_type(kubernetes.NamedFormat)
kubernetes.NamedFormat.validate(string) -> optional_type(list(string))
jsonpatch.escapeKey(string) -> string
"""

_AUTHORIZER = """
kubernetes.authorization.Authorizer.path(string) -> kubernetes.authorization.PathCheck
kubernetes.authorization.PathCheck.check(string) -> kubernetes.authorization.Decision
kubernetes.authorization.Authorizer.group(string) -> kubernetes.authorization.GroupCheck
kubernetes.authorization.Authorizer.serviceAccount(string, string) -> kubernetes.authorization.Authorizer
kubernetes.authorization.GroupCheck.resource(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.subresource(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.namespace(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.name(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.fieldSelector(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.labelSelector(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.check(string) -> kubernetes.authorization.Decision
kubernetes.authorization.Decision.allowed() -> bool
kubernetes.authorization.Decision.reason() -> string
kubernetes.authorization.Decision.errored() -> bool
kubernetes.authorization.Decision.error() -> string
"""

FORMATS = (
    "dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "dns1123LabelPrefix", "dns1123SubdomainPrefix",
    "dns1035LabelPrefix", "labelValue", "uri", "uuid", "byte", "date", "datetime",
)  # fmt: skip
"""the named formats of ``apiserver/pkg/cel/library/format.go``"""
NAMESPACES = frozenset({"optional", "sets", "lists", "strings", "ip", "format", "jsonpatch"})
"""what stands before the dot of a function that is no method"""


_UNITS = ("FullYear", "Month", "DayOfYear", "DayOfMonth", "Date", "DayOfWeek", "Hours", "Minutes", "Seconds", "Milliseconds")


class Overload(NamedTuple):
    """One signature of a function."""

    arguments: tuple[Type, ...]
    result: Type
    member: bool
    generic: bool
    """whether it has type parameters"""


def _lines() -> list[str]:
    found = [one for part in (_OPERATORS, _STANDARD, _EXTENSIONS, _AUTHORIZER) for one in part.strip().splitlines()]
    for name in ("<", "<=", ">", ">="):
        found += [f"_{name}_({one}, {one}) -> bool" for one in _ORDERED]
        found += [f"_{name}_({one}, {other}) -> bool" for one in _NUMBERS for other in _NUMBERS if one != other]
    for name in "+-*/":
        found += [f"_{name}_({one}, {one}) -> {one}" for one in _NUMBERS]
    for unit in _UNITS:
        found += [f"timestamp.get{unit}({zone}) -> int" for zone in ("", "string")]
    found += [f"format.{name}() -> kubernetes.NamedFormat" for name in FORMATS]
    for one in _ORDERED:
        found += [f"list({one}).isSorted() -> bool", f"list({one}).min() -> {one}", f"list({one}).max() -> {one}"]
        found += [f"list({one}).sort() -> list({one})", f"list(A).@sortByAssociatedKeys(list({one})) -> list(A)"]
    found += [f"list({one}).sum() -> {one}" for one in (*_NUMBERS, "duration")]
    return found


def _type(text: str) -> Type:
    name, _, inner = text.partition("(")
    return Type(name, tuple(map(_type, _split(inner[:-1])))) if inner else Type(name)


def _split(text: str) -> list[str]:
    """At the commas outside of parentheses."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()] if text.strip() else []


def _overload(line: str) -> tuple[str, Overload]:
    call, _, result = line.rpartition(" -> ")
    found = re.fullmatch(r"(?:(.+)\.)?([\w@]+|[^\w(]\S*?)\((.*)\)", call) if "_" not in call[:2] else None
    if found is None:  # an operator
        receiver: str | None = None
        name, _, inner = call.partition("(")
        inner = inner[:-1]
    else:
        receiver, name, inner = found.groups()
    arguments = [_type(one) for one in _split(inner)]
    member = bool(receiver) and receiver not in NAMESPACES
    if receiver and member:
        arguments.insert(0, _type(receiver))
    elif receiver:
        name = f"{receiver}.{name}"
    generic = any(_generic(one) for one in (*arguments, _type(result)))
    return name, Overload(tuple(arguments), _type(result), member, generic)


def _generic(one: Type) -> bool:
    return one.parameter or any(map(_generic, one.of))


def _declared() -> dict[str, list[Overload]]:
    found: dict[str, list[Overload]] = {}
    for line in _lines():
        name, overload = _overload(line)
        found.setdefault(name, []).append(overload)
    return found


SIGNATURES = _declared()
TYPE_NAMES = {
    **{name: Type(name) for name in ("bool", "int", "uint", "double", "string", "bytes")},
    "list": Type("list", (Type("dyn"),)),
    "map": Type("map", (Type("dyn"), Type("dyn"))),
    "null_type": Type("null"),
    "optional_type": Type("optional_type", (Type("dyn"),)),
    "google.protobuf.Timestamp": Type("timestamp"),
    "google.protobuf.Duration": Type("duration"),
}
"""names that stand for a type, as in ``type(x) == string``"""

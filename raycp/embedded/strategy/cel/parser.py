"""CEL text to a tree (https://github.com/google/cel-spec, langdef.md).

Nodes are tuples that know their place in the text: ``("lit", value)``, ``("id", name)``, ``("sel", of, name, optional)``,
``("has", of, name)``,
``("index", of, key)``, ``("call", name, [args])``, ``("method", of, name, [args])``, ``("list", [..])``,
``("map", [(k, v)..])``, ``("cond", c, a, b)``, ``("and"|"or", a, b)``, ``("bin", op, a, b)``, ``("not", a)``,
``("neg", a)``, ``("loop", macro, over, [variables], [bodies])``, ``("struct", type, [(field, value)..])``, and in place of an
element of a list, or of a value of a map or a struct, ``("maybe", value)``: it is left out if the optional value is none.
A call of a namespaced function as ``sets.contains`` is a "call" of that name.
"""

import math
import re
from typing import Any

from raycp.embedded.strategy.cel.operators import Uint
from raycp.embedded.strategy.cel.signatures import NAMESPACES, SIGNATURES


class CelNode(tuple[Any, ...]):
    """A node of the tree. ``at`` is where it is in the text, as cel-go counts it: an operator's place, a call's parenthesis."""

    at: int

    @staticmethod
    def of(at: int, *parts: Any) -> "CelNode":
        made = CelNode(parts)
        made.at = at
        return made


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<comment>//[^\n]*)
    | (?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    | (?P<hex>0x[0-9a-fA-F]+u?) | (?P<int>\d+[uU]?)
    | (?P<string>[bB]?[rR]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<id>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<op>\|\||&&|==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {
    "__underscores__": "__",
    "__dot__": ".",
    "__dash__": "-",
    "__slash__": "/",
}
_RESERVED = frozenset({"if", "for", "while", "import", "let", "loop", "package", "namespace", "return", "var", "void"})
MAX_EXPRESSION = 100_000
"""characters of an expression, as cel-go's parser takes"""
_DIGITS = 100
"""No integer literal has more, even with leading zeros; Python refuses to parse 4300."""
MACROS = {
    "all": ((1, 1), (2, 1)),
    "exists": ((1, 1), (2, 1)),
    "exists_one": ((1, 1),),
    "existsOne": ((2, 1),),
    "filter": ((1, 1),),
    "map": ((1, 1), (1, 2)),
    "transformList": ((2, 1), (2, 2)),
    "transformMap": ((2, 1), (2, 2)),
    "transformMapEntry": ((2, 1), (2, 2)),
    "sortBy": ((1, 1),),
    "optMap": ((1, 1),),
    "optFlatMap": ((1, 1),),
}
"""how many variables and bodies a macro may have"""
_LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))


class CelSyntaxError(Exception):
    """The expression has a syntax error, at a place in its text."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.at = at


def unescape(name: str) -> str:
    """``__dash__`` and the like in field names, as structural schemas escape them."""
    if "__" not in name:
        return name
    found = re.fullmatch(r"__(\w+?)__", name)
    if found and name not in _ESCAPES:
        return found[1]  # a reserved word
    return re.sub(r"__underscores__|__dot__|__dash__|__slash__", lambda m: _ESCAPES[m[0]], name)


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            here = len(text) - len(text[at:].lstrip())
            raise CelSyntaxError(f"Syntax error: token recognition error at: '{text[here]}'", here)
        if match.lastgroup != "comment":
            found.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return found


_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|X[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", flags=re.DOTALL
)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _whole(text: str, is_hex: bool, negative: bool, at: int) -> int:
    """An integer literal, without its sign. Raises ``CelSyntaxError`` if it has more than 64 bits."""
    digits, unsigned = text.rstrip("uU"), text[-1] in "uU"
    value = int(digits, 16 if is_hex else 10) if len(digits) <= _DIGITS else 1 << 64
    if unsigned:
        if value >= 1 << 64:
            raise CelSyntaxError("invalid uint literal", at)
        return Uint(value)
    if value >= 1 << 63 and not (negative and value == 1 << 63):
        raise CelSyntaxError("invalid int literal", at)
    return value


def _string(text: str) -> Any:
    prefix = re.match(r"[bBrR]*", text)
    assert prefix is not None
    flags = prefix[0].lower()
    body = text[prefix.end() :]
    body = body[3:-3] if body[:3] in ('"""', "'''") else body[1:-1]
    if "b" in flags:
        return _bytes(body) if "r" not in flags else body.encode()
    return body if "r" in flags else _ESCAPE.sub(lambda m: _escape(m[1]), body)


def _bytes(body: str) -> bytes:
    made, at = b"", 0
    for found in _ESCAPE.finditer(body):
        one = found[1]
        octet = len(one) > 1 and one[0] not in "uU"  # in bytes, these are bytes and no characters
        made += body[at : found.start()].encode() + (bytes([_code(one)]) if octet else _escape(one).encode())
        at = found.end()
    return made + body[at:].encode()


def _escape(text: str) -> str:
    if len(text) > 1:
        code = _code(text)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError("invalid unicode code point")
        return chr(code)
    return _SIMPLE.get(text, text)


def _code(text: str) -> int:
    return int(text, 8) if text[0].isdigit() else int(text[1:], 16)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.end = len(text)

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at][1] if at < len(self.tokens) and self.tokens[at][0] in ("op", "id") else ""

    def place(self, ahead: int = 0) -> int:
        at = self.at + ahead
        return self.tokens[at][2] if at < len(self.tokens) else self.end

    def take(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.at += 1
            return True
        return False

    def fail(self, what: str, wanted: str = "") -> CelSyntaxError:
        got = self.tokens[self.at][1] if self.at < len(self.tokens) else "<EOF>"
        return CelSyntaxError(f"Syntax error: {what} '{got}'" + (f" expecting {wanted}" if wanted else ""), self.place())

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise self.fail("mismatched input", f"'{wanted}'")

    def expression(self) -> CelNode:
        condition = self.either()
        at = self.place()
        if not self.take("?"):
            return condition
        yes = self.either()
        self.expect(":")
        return CelNode.of(at, "cond", condition, yes, self.expression())

    def either(self) -> CelNode:
        left, at = self.both(), self.place()
        while self.take("||"):
            left = CelNode.of(at, "or", left, self.both())
            at = self.place()
        return left

    def both(self) -> CelNode:
        left, at = self.binary(0), self.place()
        while self.take("&&"):
            left = CelNode.of(at, "and", left, self.binary(0))
            at = self.place()
        return left

    def binary(self, level: int) -> CelNode:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            operator, at = self.peek(), self.place()
            self.at += 1
            left = CelNode.of(at, "bin", operator, left, self.binary(level + 1))
        return left

    def unary(self) -> CelNode:
        at = self.place()
        if self.take("!"):
            return CelNode.of(at, "not", self.unary())
        if self.take("-"):
            number = self.at < len(self.tokens) and self.tokens[self.at][0] in ("int", "hex")
            inner = self.member(negative=True) if number else self.unary()
            if inner[0] == "lit" and type(inner[1]) in (int, float):
                return CelNode.of(at, "lit", -inner[1])
            return CelNode.of(at, "neg", inner)
        return self.member()

    def member(self, negative: bool = False) -> CelNode:
        node = self.primary(negative)
        while True:
            at = self.place()
            if self.take("."):
                optional = self.take("?")
                kind, name = self.tokens[self.at][:2] if self.at < len(self.tokens) else ("", "<EOF>")
                if kind != "id":
                    raise self.fail("no viable alternative at input")
                self.at += 1
                if self.peek() == "(" and not optional:
                    node = self.method(node, name)
                else:
                    node = CelNode.of(at, "sel", node, unescape(name), optional)
            elif self.take("["):
                optional = self.take("?")
                key = self.expression()
                self.expect("]")
                node = CelNode.of(at, "index", node, key, optional)
            elif self.peek() == "{" and (name := dotted(node)):
                node = CelNode.of(at, "struct", name, self.entries(names=True))
            else:
                return node

    def arguments(self) -> list[CelNode]:
        self.expect("(")
        found: list[CelNode] = []
        while not self.take(")"):
            if found:
                self.expect(",")
            found.append(self.expression())
        return found

    def method(self, of: CelNode, name: str) -> CelNode:
        at = self.place()
        arguments = self.arguments()
        for count, bodies in MACROS.get(name, ()):
            if len(arguments) == count + bodies:
                for one in arguments[:count]:
                    if one[0] != "id":
                        raise CelSyntaxError("argument must be a simple name", one.at)
                return CelNode.of(at, "loop", name, of, [one[1] for one in arguments[:count]], arguments[count:])
        if of[0] == "id" and of[1] in NAMESPACES and f"{of[1]}.{name}" in SIGNATURES:
            return CelNode.of(at, "call", f"{of[1]}.{name}", arguments)
        return CelNode.of(at, "method", of, name, arguments)

    def primary(self, negative: bool = False) -> CelNode:
        if self.at >= len(self.tokens):
            raise self.fail("mismatched input")
        kind, text, at = self.tokens[self.at]
        if kind == "op" and text not in "([{":
            raise self.fail("extraneous input")
        self.at += 1
        if kind in ("int", "hex"):
            return CelNode.of(at, "lit", _whole(text, kind == "hex", negative, at))
        if kind == "double":
            number = float(text)
            if math.isinf(number):
                raise CelSyntaxError("invalid double literal", at)
            return CelNode.of(at, "lit", number)
        if kind == "string":
            try:
                return CelNode.of(at, "lit", _string(text))
            except ValueError as error:
                raise CelSyntaxError(str(error), at) from None
        if kind == "id":
            return self.name(text, at)
        if text == "(":
            inner = self.expression()
            self.expect(")")
            return inner
        if text == "[":
            items: list[CelNode] = []
            while not self.take("]"):
                if items:
                    self.expect(",")
                    if self.take("]"):
                        break
                items.append(self.element())
            return CelNode.of(at, "list", items)
        self.at -= 1
        return CelNode.of(at, "map", self.entries(names=False))

    def element(self) -> CelNode:
        at = self.place()
        return CelNode.of(at, "maybe", self.expression()) if self.take("?") else self.expression()

    def entries(self, names: bool) -> list[tuple[Any, CelNode]]:
        """The fields of a struct or the pairs of a map, in braces."""
        self.expect("{")
        pairs: list[tuple[Any, CelNode]] = []
        while not self.take("}"):
            if pairs:
                self.expect(",")
                if self.take("}"):
                    break
            at = self.place()
            optional = self.take("?")
            key: Any = self.expression()
            if names:
                if key[0] != "id":
                    raise CelSyntaxError("Syntax error: mismatched input", at)
                key = unescape(key[1])
            self.expect(":")
            value = self.expression()
            pairs.append((key, CelNode.of(value.at, "maybe", value) if optional else value))
        return pairs

    def name(self, text: str, at: int) -> CelNode:
        if text in ("true", "false", "null"):
            return CelNode.of(at, "lit", {"true": True, "false": False, "null": None}[text])
        if text in _RESERVED or text == "in":
            raise CelSyntaxError(f"reserved identifier: {text}", at)
        if self.peek() != "(":
            return CelNode.of(at, "id", text)
        at = self.place()
        arguments = self.arguments()
        if text == "has":
            if len(arguments) != 1 or arguments[0][0] != "sel":
                raise CelSyntaxError("invalid argument to has() macro", at)
            return CelNode.of(at, "has", arguments[0][1], arguments[0][2])
        return CelNode.of(at, "call", text, arguments)


def dotted(node: CelNode) -> str:
    """The name ``a.b.c`` that the node spells, or nothing."""
    if node[0] == "id":
        return str(node[1])
    if node[0] == "sel" and not node[3]:
        before = dotted(node[1])
        return f"{before}.{node[2]}" if before else ""
    return ""


def parse(text: str) -> CelNode:
    """The tree of an expression. Raises ``CelSyntaxError``."""
    if len(text) > MAX_EXPRESSION:
        raise CelSyntaxError(f"expression code point size exceeds limit: size: {len(text)}, limit {MAX_EXPRESSION}")
    parser = _Parser(text)
    tree = parser.expression()
    if parser.at < len(parser.tokens):
        raise parser.fail("extraneous input", "<EOF>")
    return tree


def shown(text: str, at: int, message: str) -> str:
    """An error as cel-go prints it: with its line and a mark below its place."""
    if len(text) > MAX_EXPRESSION:
        return f"ERROR: <input>:-1:0: {message}"
    line = text.count("\n", 0, at)
    column = at - (text.rfind("\n", 0, at) + 1)
    snippet = text.split("\n")[line].replace("\t", " ")
    marks = "".join("." if ord(one) < 128 else "\uff0e" for one in snippet[:column]) + "^"
    return f"ERROR: <input>:{line + 1}:{column + 1}: {message}\n | {snippet}\n | {marks}"

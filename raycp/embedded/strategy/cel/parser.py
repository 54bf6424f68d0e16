"""CEL text to a tree (https://github.com/google/cel-spec, langdef.md).

Nodes are tuples: ``("lit", value)``, ``("id", name)``, ``("sel", of, name, optional)``, ``("has", of, name)``,
``("index", of, key)``, ``("call", name, [args])``, ``("method", of, name, [args])``, ``("list", [..])``,
``("map", [(k, v)..])``, ``("cond", c, a, b)``, ``("and"|"or", a, b)``, ``("bin", op, a, b)``, ``("not", a)``,
``("neg", a)``, ``("loop", macro, over, [variables], [bodies])``.
"""

import re
from typing import Any

Node = tuple[Any, ...]

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
MACROS = {"all": 2, "exists": 2, "exists_one": 2, "existsOne": 2, "filter": 2, "map": 2}
_LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))


class CelSyntaxError(Exception):
    """The expression has a syntax error."""


def unescape(name: str) -> str:
    """``__dash__`` and the like in field names, as structural schemas escape them."""
    if "__" not in name:
        return name
    found = re.fullmatch(r"__(\w+?)__", name)
    if found and name not in _ESCAPES:
        return found[1]  # a reserved word
    return re.sub(r"__underscores__|__dot__|__dash__|__slash__", lambda m: _ESCAPES[m[0]], name)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise CelSyntaxError(f"Syntax error: token recognition error at: {text[at : at + 10]!r}")
        if match.lastgroup != "comment":
            found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _string(text: str) -> Any:
    prefix = re.match(r"[bBrR]*", text)
    assert prefix is not None
    flags = prefix[0].lower()
    body = text[prefix.end() :]
    body = body[3:-3] if body[:3] in ('"""', "'''") else body[1:-1]
    if "r" not in flags:
        body = re.sub(
            r"\\(x[0-9a-fA-F]{2}|X[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)",
            lambda m: _escape(m[1]),
            body,
            flags=re.DOTALL,
        )
    return body.encode() if "b" in flags else body


def _escape(text: str) -> str:
    if len(text) > 1:
        return chr(int(text, 8)) if text[0].isdigit() else chr(int(text[1:], 16))
    return _SIMPLE.get(text, text)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) and self.tokens[self.at][0] in ("op", "id") else ""

    def take(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self.at += 1
            return True
        return False

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            got = self.tokens[self.at][1] if self.at < len(self.tokens) else "<EOF>"
            raise CelSyntaxError(f"Syntax error: mismatched input '{got}' expecting '{wanted}'")

    def expression(self) -> Node:
        condition = self.either()
        if not self.take("?"):
            return condition
        yes = self.either()
        self.expect(":")
        return ("cond", condition, yes, self.expression())

    def either(self) -> Node:
        left = self.both()
        while self.take("||"):
            left = ("or", left, self.both())
        return left

    def both(self) -> Node:
        left = self.binary(0)
        while self.take("&&"):
            left = ("and", left, self.binary(0))
        return left

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            operator = self.peek()
            self.at += 1
            left = ("bin", operator, left, self.binary(level + 1))
        return left

    def unary(self) -> Node:
        if self.take("!"):
            return ("not", self.unary())
        if self.take("-"):
            inner = self.unary()
            if inner[0] == "lit" and isinstance(inner[1], (int, float)):
                return ("lit", -inner[1])
            return ("neg", inner)
        return self.member()

    def member(self) -> Node:
        node = self.primary()
        while True:
            if self.take("."):
                optional = self.take("?")
                kind, name = self.tokens[self.at] if self.at < len(self.tokens) else ("", "<EOF>")
                if kind != "id":
                    raise CelSyntaxError(f"Syntax error: no viable alternative at input '.{name}'")
                self.at += 1
                node = self.method(node, name) if self.peek() == "(" and not optional else ("sel", node, unescape(name), optional)
            elif self.take("["):
                optional = self.take("?")
                key = self.expression()
                self.expect("]")
                node = ("index", node, key, optional)
            else:
                return node

    def arguments(self) -> list[Node]:
        self.expect("(")
        found: list[Node] = []
        while not self.take(")"):
            if found:
                self.expect(",")
            found.append(self.expression())
        return found

    def method(self, of: Node, name: str) -> Node:
        arguments = self.arguments()
        if name in MACROS and len(arguments) in (2, 3):
            count = 1
            if len(arguments) == 3 and name not in ("map",):
                count = 2  # two-variable comprehensions
            variables = [one[1] for one in arguments[:count] if one[0] == "id"]
            if len(variables) != count:
                raise CelSyntaxError("argument must be a simple name")
            return ("loop", name, of, variables, arguments[count:])
        return ("method", of, name, arguments)

    def primary(self) -> Node:
        if self.at >= len(self.tokens):
            raise CelSyntaxError("Syntax error: mismatched input '<EOF>'")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "int":
            return ("lit", int(text.rstrip("uU")))
        if kind == "hex":
            return ("lit", int(text.rstrip("u"), 16))
        if kind == "double":
            return ("lit", float(text))
        if kind == "string":
            return ("lit", _string(text))
        if kind == "id":
            return self.name(text)
        if text == "(":
            inner = self.expression()
            self.expect(")")
            return inner
        if text == "[":
            items: list[Node] = []
            while not self.take("]"):
                if items:
                    self.expect(",")
                    if self.take("]"):
                        break
                items.append(self.expression())
            return ("list", items)
        if text == "{":
            pairs: list[tuple[Node, Node]] = []
            while not self.take("}"):
                if pairs:
                    self.expect(",")
                    if self.take("}"):
                        break
                key = self.expression()
                self.expect(":")
                pairs.append((key, self.expression()))
            return ("map", pairs)
        raise CelSyntaxError(f"Syntax error: extraneous input '{text}'")

    def name(self, text: str) -> Node:
        if text in ("true", "false", "null"):
            return ("lit", {"true": True, "false": False, "null": None}[text])
        if text in _RESERVED or text == "in":
            raise CelSyntaxError(f"reserved identifier: {text}")
        if self.peek() != "(":
            return ("id", text)
        arguments = self.arguments()
        if text == "has":
            if len(arguments) != 1 or arguments[0][0] != "sel":
                raise CelSyntaxError("invalid argument to has() macro")
            return ("has", arguments[0][1], arguments[0][2])
        return ("call", text, arguments)


def parse(text: str) -> Node:
    """The tree of an expression. Raises ``CelSyntaxError``."""
    parser = _Parser(text)
    tree = parser.expression()
    if parser.at < len(parser.tokens):
        raise CelSyntaxError(f"Syntax error: extraneous input '{parser.tokens[parser.at][1]}' expecting <EOF>")
    return tree

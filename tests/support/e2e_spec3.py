"""What Go's kube-openapi makes of an OpenAPI v3 document: what its types would refuse, drop, or not write again.

The forms are those of the types in ``pkg/spec3`` and ``pkg/validation/spec``. An empty list or map in a field that is written with
``omitempty`` is read as empty, not written, and then read as none: the round trip differs. A field that a type does not have is
dropped (in a schema it is kept). A number that is no integer, or a list where a text is wanted, is refused.
"""

from collections.abc import Callable, Iterator
from typing import Any

Form = Callable[[Any, str], Iterator[str]]


def _plain(kind: type | tuple[type, ...]) -> Form:
    def check(value: Any, at: str) -> Iterator[str]:
        whole = type(value) is float and kind is int and value.is_integer()
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in wanted or whole:
            yield f"{at}: {value!r} is refused"

    return check


def _any(value: Any, at: str) -> Iterator[str]:
    return iter(())


def _list(of: Form) -> Form:
    def check(value: Any, at: str) -> Iterator[str]:
        if type(value) is not list:
            yield f"{at}: {value!r} is refused"
        elif not value:
            yield f"{at}: an empty list is not written again"
        else:
            for i, each in enumerate(value):
                yield from of(each, f"{at}/{i}")

    return check


def _map(of: Form) -> Form:
    def check(value: Any, at: str) -> Iterator[str]:
        if type(value) is not dict:
            yield f"{at}: {value!r} is refused"
        elif not value:
            yield f"{at}: an empty map is not written again"
        else:
            for key, each in value.items():
                yield from of(each, f"{at}/{key}")

    return check


def _type(fields: dict[str, Form], keeps: bool = False) -> Form:
    """A struct. ``keeps``: it holds fields that it does not know."""

    def check(value: Any, at: str) -> Iterator[str]:
        if type(value) is not dict:
            yield f"{at}: {value!r} is refused"
            return
        for key, each in value.items():
            if key in fields:
                yield from fields[key](each, f"{at}/{key}")
            elif not key.lower().startswith("x-") and not keeps:
                yield f"{at}: {key} is dropped"

    return check


def _either(*forms: tuple[type, Form]) -> Form:
    def check(value: Any, at: str) -> Iterator[str]:
        form = next((form for kind, form in forms if type(value) is kind), None)
        if form is None:
            yield f"{at}: {value!r} is refused"
        else:
            yield from form(value, at)

    return check


def _schema(value: Any, at: str) -> Iterator[str]:
    yield from _SCHEMA(value, at)


def _known(value: Any, at: str) -> Iterator[str]:
    """``type``: a list of one is written as a text, which is read as the same list."""
    yield from _either((str, _any), (list, _list(_plain(str))))(value, at)


def _path_map(value: Any, at: str) -> Iterator[str]:
    if type(value) is not dict:
        yield f"{at}: {value!r} is refused"
        return
    for key, each in value.items():
        if key.startswith("/"):
            yield from _PATH(each, f"{at}{key}")
        elif not key.lower().startswith("x-"):
            yield f"{at}: {key} is dropped"


def _responses(value: Any, at: str) -> Iterator[str]:
    if type(value) is not dict:
        yield f"{at}: {value!r} is refused"
        return
    for key, each in value.items():
        if key == "default" or key.isdigit():
            yield from _RESPONSE(each, f"{at}/{key}")
        elif not key.lower().startswith("x-"):
            yield f"{at}: {key} is dropped"


_TEXT, _FLAG, _WHOLE, _NUMBER = _plain(str), _plain(bool), _plain(int), _plain((int, float))
_SCHEMAS = _map(_schema)
_SOME = _either((bool, _any), (dict, _schema))
_DOCS = _type({"description": _TEXT, "url": _TEXT})
_SCHEMA = _type(
    {
        **dict.fromkeys(("id", "$ref", "$schema", "description", "format", "title", "pattern", "discriminator"), _TEXT),
        **dict.fromkeys(("nullable", "exclusiveMaximum", "exclusiveMinimum", "uniqueItems", "readOnly"), _FLAG),
        **dict.fromkeys(("maximum", "minimum", "multipleOf"), _NUMBER),
        **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"), _WHOLE),
        **dict.fromkeys(("allOf", "oneOf", "anyOf"), _list(_schema)),
        **dict.fromkeys(("properties", "patternProperties", "definitions"), _SCHEMAS),
        **dict.fromkeys(("additionalProperties", "additionalItems"), _SOME),
        "type": _known,
        "enum": _list(_any),
        "required": _list(_TEXT),
        "items": _either((dict, _schema), (list, _list(_schema))),
        "not": _schema,
        "externalDocs": _DOCS,
    },
    keeps=True,
)
_MEDIA = _type({"schema": _schema, "example": _any})
_PARAMETER = _type(
    {
        **dict.fromkeys(("$ref", "name", "in", "description", "style"), _TEXT),
        **dict.fromkeys(("required", "deprecated", "allowEmptyValue", "explode", "allowReserved"), _FLAG),
        "schema": _schema,
        "content": _map(_MEDIA),
        "example": _any,
    }
)
_RESPONSE = _type({"$ref": _TEXT, "description": _TEXT, "content": _map(_MEDIA)})
_OPERATION = _type(
    {
        **dict.fromkeys(("summary", "description", "operationId"), _TEXT),
        "tags": _list(_TEXT),
        "externalDocs": _DOCS,
        "parameters": _list(_PARAMETER),
        "requestBody": _type({"$ref": _TEXT, "description": _TEXT, "content": _map(_MEDIA), "required": _FLAG}),
        "responses": _responses,
        "deprecated": _FLAG,
    }
)
_PATH = _type(
    {
        **dict.fromkeys(("$ref", "summary", "description"), _TEXT),
        **dict.fromkeys(("get", "put", "post", "delete", "options", "head", "patch", "trace"), _OPERATION),
        "parameters": _list(_PARAMETER),
    }
)
_INFO = _type({**dict.fromkeys(("title", "description", "termsOfService", "version"), _TEXT)})
_DOCUMENT = _type({"openapi": _TEXT, "info": _INFO, "paths": _path_map, "components": _type({"schemas": _SCHEMAS})})


def differences(document: Any) -> list[str]:
    """What does not survive kube-openapi's parser and printer, each with its place. Forms not listed here count as dropped."""
    return list(_DOCUMENT(document, ""))

"""Render templates to patches, with a cache of parsed YAML.

Parsing YAML takes ten times as long as rendering, and ten thousand Pods of one job render the same text except for time,
address and identity. These parts are replaced by placeholders in the cache's key and restored in the cached patch.
"""

from functools import lru_cache
from typing import Any

import msgspec
import yaml

from raycp.embedded.life.gotemplate import Template, TemplateError

_MARKS = [chr(0xE000 + i) for i in range(16)]


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML without timestamps: Kubernetes reads them as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@lru_cache(maxsize=2048)
def _parse(text: str) -> str:
    try:
        return msgspec.json.encode(yaml.load(text, _Loader)).decode()  # a SafeLoader
    except yaml.YAMLError as error:
        raise TemplateError(f"renders no YAML: {error}") from error
    except TypeError as error:
        raise TemplateError(f"renders what JSON can't hold: {error}") from error


def render(template: Template, data: Any, volatile: list[str]) -> Any:
    """The patch that ``template`` renders for ``data``. ``volatile`` are texts that differ between objects."""
    text = template.render(data)
    used = [part for part in volatile if len(part) > 3 and part in text][: len(_MARKS)]
    for mark, part in zip(_MARKS, used, strict=False):
        text = text.replace(part, mark)
    found = _parse(text)
    for mark, part in zip(_MARKS, used, strict=False):
        found = found.replace(mark, part)
    return msgspec.json.decode(found)

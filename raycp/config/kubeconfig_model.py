"""A kubeconfig file as pydantic models, with the types that kubectl insists on (API doc of ``client.config.k8s.io/v1``).

As kubectl does: a null is the same as an absent key, an unknown key is ignored, and a value of another type (a token that YAML
takes for a number), base64 that is none, or two entries of one name spoil the whole file. No repr and no error has a secret.
"""

import base64
import binascii
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from raycp.config.problems import Loc, dotted
from raycp.config.strict import InvalidValue


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue("is not base64", "it holds a PEM file in base64, as `base64 -w0 FILE` prints it", secret=True) from None


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _without_nulls(value: Any) -> Any:
    """As Go decodes it: a null in a list is an empty element."""
    return [{} if each is None else each for each in value] if isinstance(value, list) else value


def _texts(value: Any) -> Any:
    return ["" if each is None else each for each in value] if isinstance(value, list) else value


Secret = Annotated[str, Field(repr=False)]
Pem = Annotated[bytes, BeforeValidator(_decoded), Field(repr=False)]
TextList = Annotated[list[str], BeforeValidator(_texts)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=_kebab, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, content: Any) -> Any:
        return {key: value for key, value in content.items() if value is not None} if isinstance(content, dict) else content


class KubeconfigExtension(_Section):
    """Free content under a name."""

    name: str = ""
    extension: Any = None


Extensions = Annotated[list[KubeconfigExtension], BeforeValidator(_without_nulls)]


class KubeconfigCluster(_Section):
    """``clusters[].cluster``: where the API server is and how to recognise it."""

    server: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    certificate_authority: str = ""
    certificate_authority_data: Pem = b""
    proxy_url: Secret = ""
    disable_compression: bool = False
    extensions: Extensions = []


class ExecVariable(_Section):
    """One variable of a plugin's environment; its value may be a secret."""

    name: str = ""
    value: Secret = ""


class KubeconfigExec(_Section):
    """``users[].user.exec``: a program that prints a credential."""

    model_config = ConfigDict(alias_generator=to_camel)

    command: str = ""
    args: Annotated[TextList, Field(repr=False)] = []
    env: Annotated[list[ExecVariable], BeforeValidator(_without_nulls)] = []
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class KubeconfigProvider(_Section):
    """``users[].user.auth-provider``."""

    name: str = ""
    config: Annotated[dict[str, str | None], Field(repr=False)] = {}

    def text(self, key: str) -> str:
        """The value of ``key``; empty if there is none."""
        return self.config.get(key) or ""


class KubeconfigUser(_Section):
    """``users[].user``: who we are to the server."""

    client_certificate: str = ""
    client_certificate_data: Pem = b""
    client_key: str = ""
    client_key_data: Pem = b""
    token: Secret = ""
    token_file: Annotated[str, Field(alias="tokenFile")] = ""
    as_: str = ""
    as_uid: str = ""
    as_groups: TextList = []
    as_user_extra: dict[str, TextList | None] = {}
    username: str = ""
    password: Secret = ""
    auth_provider: KubeconfigProvider | None = None
    exec_: KubeconfigExec | None = None
    extensions: Extensions = []


class KubeconfigContext(_Section):
    """``contexts[].context``: a cluster and a user, by name."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""
    extensions: Extensions = []


class _NamedCluster(_Section):
    name: str = ""
    cluster: KubeconfigCluster = KubeconfigCluster()


class _NamedUser(_Section):
    name: str = ""
    user: KubeconfigUser = KubeconfigUser()


class _NamedContext(_Section):
    name: str = ""
    context: KubeconfigContext = KubeconfigContext()


class _Preferences(_Section):
    colors: bool = False
    extensions: Extensions = []


_Named = TypeVar("_Named", bound=_NamedCluster | _NamedUser | _NamedContext)


def _unique(entries: list[_Named]) -> list[_Named]:
    known: set[str] = set()
    for entry in entries:
        if entry.name in known:
            raise InvalidValue(f"has two entries named {entry.name!r}", "keep one of them")
        known.add(entry.name)
    return entries


class KubeconfigDocument(_Section):
    """One file."""

    api_version: Annotated[str, Field(alias="apiVersion")] = ""
    kind: str = ""
    preferences: _Preferences = _Preferences()
    current_context: str = ""
    extensions: Extensions = []
    clusters: Annotated[list[_NamedCluster], BeforeValidator(_without_nulls), AfterValidator(_unique)] = []
    users: Annotated[list[_NamedUser], BeforeValidator(_without_nulls), AfterValidator(_unique)] = []
    contexts: Annotated[list[_NamedContext], BeforeValidator(_without_nulls), AfterValidator(_unique)] = []


_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number"}
_EXPECTED = {
    "string_type": ("text", "put it in quotes"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "list_type": ("a list", "write its entries as a list"),
    "bytes_type": ("text in base64", "put it in quotes"),
}


def kubeconfig_document(content: Any) -> KubeconfigDocument:
    """The models of a file's ``content``. Raises ``InvalidValue``: its text begins with the path of what is wrong."""
    if content is None:
        return KubeconfigDocument()
    if not isinstance(content, dict):
        raise InvalidValue("is not a mapping", "name a kubeconfig file")
    try:
        found = KubeconfigDocument.model_validate(content)
    except ValidationError as error:
        raise _first(error) from None
    if found.kind not in ("", "Config"):
        raise InvalidValue(f"kind is {found.kind!r}, not Config", "name a kubeconfig file")
    if found.api_version not in ("", "v1"):
        raise InvalidValue(f"apiVersion is {found.api_version!r}, not v1", "name a kubeconfig file")
    return found


def _first(error: ValidationError) -> InvalidValue:
    first = error.errors(include_url=False)[0]
    loc: Loc = first["loc"]
    kind = first["type"]
    where = dotted(loc)
    refused = first.get("ctx", {}).get("error")
    if isinstance(refused, InvalidValue):
        return InvalidValue(f"{where} {refused}", refused.remedy, secret=True)
    expected, remedy = _EXPECTED.get(kind, ("a mapping", "write it as key: value"))
    given = _KINDS.get(type(first["input"]), "something else")
    return InvalidValue(f"{where} is {given} where {expected} is expected", remedy, secret=True)

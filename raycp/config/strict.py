"""The base of the fleet file's models, and the error of an invalid value."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class InvalidValue(ValueError):
    """A value that a field does not accept. Its text is a predicate ("is not a duration"), ``remedy`` what to write.

    With ``secret`` the value is not shown.
    """

    def __init__(self, message: str, remedy: str, *, secret: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.secret = secret


class Strict(BaseModel):
    """A model that refuses unknown keys, does not convert types and is immutable.

    Fields are ``snake_case`` in Python and ``camelCase`` in YAML. The docstring below each field is its documentation:
    its purpose, unit, and the meaning of its default.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

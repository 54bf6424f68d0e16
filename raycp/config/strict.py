"""The base of every model of the fleet file, and the error by which a field refuses a value."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Refused(ValueError):
    """A value that a field does not take. Its text is a predicate ("is not a duration"), ``remedy`` what to write.

    With ``secret`` the value is not shown.
    """

    def __init__(self, message: str, remedy: str, *, secret: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.secret = secret


class Strict(BaseModel):
    """Unknown keys are refused, types are not guessed, values can't be changed after.

    Fields are ``snake_case`` in Python and ``camelCase`` in YAML. The docstring below each field is its documentation:
    why it exists, its unit, what the default means.
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

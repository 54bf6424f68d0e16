"""``CrdModel``: what all models of the shipped kinds' schemas have in common."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class CrdModel(BaseModel):
    """Fields in camel case; what a later release has written besides is left alone."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

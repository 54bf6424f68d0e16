"""The base of all control questions."""

from typing import Generic, TypeVar

import msgspec

A = TypeVar("A")


class Question(msgspec.Struct, Generic[A], array_like=True, frozen=True):
    """A question to a member or to the leader; ``A`` is the type of its answer. The class's name is its name on the wire."""

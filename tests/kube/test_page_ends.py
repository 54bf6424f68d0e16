"""Lists by pages end, whatever the server says of the next one (law 14)."""

import itertools
import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from raycp.kube.errors import BadAnswer, TooLarge
from raycp.kube.limits import AnswerLimits
from raycp.kube.pages import each_page


class Server:
    """Answers with a page for each token."""

    def __init__(self, tokens: Iterable[str], limit: int = 10_000) -> None:
        self.limits = AnswerLimits(list=limit)
        self.asked: list[dict[str, Any]] = []
        self._tokens = iter(tokens)

    async def request(self, verb: str, path: str, query: dict[str, Any]) -> Any:
        self.asked.append(query)
        return SimpleNamespace(body=json.dumps({"items": [], "metadata": {"continue": next(self._tokens)}}).encode())


async def bodies(server: Server) -> int:
    return len([body async for body in each_page(server, "/api/v1/pods", {"limit": 5})])  # type: ignore[arg-type]


async def test_each_page_is_asked_for_by_the_token_of_the_one_before() -> None:
    server = Server(["a", "b", ""])
    assert await bodies(server) == 3
    assert server.asked == [{"limit": 5}, {"limit": 5, "continue": "a"}, {"limit": 5, "continue": "b"}]


async def test_a_page_that_names_itself_is_no_end() -> None:
    with pytest.raises(BadAnswer, match="names itself"):
        await bodies(Server(itertools.repeat("a")))


async def test_pages_without_end_are_too_large() -> None:
    server = Server(str(number) for number in itertools.count())
    with pytest.raises(TooLarge, match="its pages have"):
        await bodies(server)
    assert len(server.asked) < 300


async def test_what_is_no_list_is_a_bad_answer() -> None:
    server = Server([])
    server.request = lambda *_, **__: html()  # type: ignore[method-assign]
    with pytest.raises(BadAnswer):
        await bodies(server)


async def html() -> Any:
    return SimpleNamespace(body=b"<html>")

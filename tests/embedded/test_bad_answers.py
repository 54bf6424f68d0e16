"""The fault ``badAnswer``, on the wire."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import get_args

import aiohttp
import pytest

from raycp.config.embedded import BadAnswerKind, EmbeddedSpec, FaultSpec
from raycp.embedded.badanswers import BODIES
from raycp.embedded.cluster import EmbeddedCluster, Endpoint

MAPS = "/api/v1/namespaces/default/configmaps"


@contextlib.asynccontextmanager
async def under(answer: str, **more: object) -> AsyncIterator[tuple[EmbeddedCluster, aiohttp.ClientSession]]:
    """A cluster that answers so, and a user of it."""
    faults = [FaultSpec.model_validate({"kind": "badAnswer", "answer": answer, **more})]
    cluster = EmbeddedCluster("c", EmbeddedSpec(faults=faults))
    there = await cluster.start()
    try:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=there.ca_pem))
        headers = {"Authorization": f"Bearer {there.token}"}
        async with aiohttp.ClientSession(there.server, headers=headers, connector=connector) as session:
            yield cluster, session
    finally:
        await cluster.stop()


def test_every_answer_has_a_body_or_rules_of_its_own() -> None:
    assert {*BODIES, "redirect"} == set(get_args(BadAnswerKind))


@pytest.mark.parametrize("answer", [each for each in BODIES if each != "truncated"])
async def test_it_comes_instead_of_the_real_answer_with_status_200(answer: BadAnswerKind) -> None:
    async with under(answer, verbs=["list"]) as (_, session):
        async with session.get(MAPS) as found:
            assert (found.status, found.headers["Content-Type"], await found.read()) == (200, *BODIES[answer])
        async with session.get(f"{MAPS}/kube-root-ca.crt") as found:
            assert (await found.json())["kind"] == "ConfigMap", "another verb"
        async with session.get("/raycp/admin/faults") as found:
            assert (await found.json())[0]["met"] == 1


async def test_a_redirect_leads_to_another_host() -> None:
    async with under("redirect") as (_, session), session.get(MAPS, allow_redirects=False) as found:
        assert found.status == 302
        assert found.headers["Location"] == f"https://login.invalid/sign-in?return={MAPS}"


async def test_half_of_an_answer_arrives_and_the_write_has_taken_effect() -> None:
    async with under("truncated") as (cluster, session):
        async with session.post(MAPS, json={"metadata": {"name": "a"}}) as found:
            assert found.status == 201
            with pytest.raises(aiohttp.ClientPayloadError):
                await found.read()
        assert cluster.api.get("configmaps", "default", "a") is not None


async def test_a_watch_ends_within_a_line() -> None:
    async with under("truncated") as (_, session), session.get(f"{MAPS}?watch=1") as found:
        with pytest.raises(aiohttp.ClientPayloadError):
            await found.read()


async def test_who_serves_the_cluster_hears_of_a_new_token() -> None:
    cluster = EmbeddedCluster("c")
    first = await cluster.start()
    told: list[Endpoint] = []
    cluster.on_endpoint = told.append
    try:
        cluster.expire_token()
        assert [each.token for each in told] != [first.token]
        assert told[0].token in told[0].kubeconfig
    finally:
        await cluster.stop()

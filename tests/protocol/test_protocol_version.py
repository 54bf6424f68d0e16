"""The protocol version of what processes exchange and store: the previous one is understood, any other refused with the remedy."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, HOST, QUIET, plan_of

from raycp.base.protocol_version import PREVIOUS, PROTOCOL
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectSpec
from raycp.leadership.records import PROTOCOL_KEY, IncompatibleRecord, Records
from raycp.protocol.channels.handshake import NotAuthenticated, Opening, ReceiverHandshake
from raycp.protocol.control import Configure, ControlError, ErrorCode, PlanOf, ReportAfter
from raycp.protocol.control.codec import decode_answer, decode_question, encode_answer, encode_question, respond
from raycp.protocol.frames import RefusalCode
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report

FUTURE = PROTOCOL + 1
REMEDY = f"has protocol version {FUTURE}.*understands {PREVIOUS} and {PROTOCOL}.*same release"


def of_version(value: object, version: int | None) -> bytes:
    """The msgpack map of a struct with another protocol version; without one where ``version`` is None."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    del fields["protocol"]
    return msgspec.msgpack.encode(fields if version is None else {**fields, "protocol": version})


def test_a_plan_of_the_previous_version_is_understood_and_another_is_refused() -> None:
    plan = plan_of({"here": "0"}, "tracked")
    for version in (None, PREVIOUS):
        raw = of_version(plan, version)
        assert msgspec.structs.replace(msgspec.msgpack.decode(raw, type=Plan), protocol=PROTOCOL) == plan
    answer = encode_answer(msgspec.Raw(of_version(plan, FUTURE)))
    with pytest.raises(ControlError, match=REMEDY) as refused:
        decode_answer(PlanOf(), answer)
    assert refused.value.code is ErrorCode.INCOMPATIBLE_VERSION


def test_the_dead_members_in_a_plan_of_the_previous_version_are_read() -> None:
    fields = msgspec.msgpack.decode(of_version(plan_of({"here": "0"}, "tracked"), PREVIOUS))
    raw = msgspec.msgpack.encode({**fields, "gone": ["worker-standard-0-1"]})
    assert msgspec.msgpack.decode(raw, type=Plan).dead == ("worker-standard-0-1",)


def test_a_report_of_the_previous_version_is_understood_and_another_is_refused() -> None:
    report = Report(1, "node", ready=True)
    for version in (None, PREVIOUS):
        raw = of_version(report, version)
        assert msgspec.structs.replace(msgspec.msgpack.decode(raw, type=Report), protocol=PROTOCOL) == report
    answer = encode_answer(msgspec.Raw(of_version(report, FUTURE)))
    with pytest.raises(ControlError, match=REMEDY) as refused:
        decode_answer(ReportAfter(), answer)
    assert refused.value.code is ErrorCode.INCOMPATIBLE_VERSION


async def test_a_control_message_of_the_previous_version_is_understood_and_another_is_refused() -> None:
    question = msgspec.msgpack.decode(encode_question(ReportAfter(7)))
    assert decode_question(msgspec.msgpack.encode([PREVIOUS, *question[1:]])) == ReportAfter(7)
    raw = msgspec.msgpack.encode([FUTURE, *question[1:]])
    with pytest.raises(ControlError, match=REMEDY) as refused:
        decode_question(raw)
    assert refused.value.code is ErrorCode.INCOMPATIBLE_VERSION
    with pytest.raises(ControlError, match="protocol version") as answered:
        decode_answer(PlanOf(), await respond(raw, asyncio.sleep))
    assert answered.value.code is ErrorCode.INCOMPATIBLE_VERSION


async def test_a_plan_of_another_version_in_a_question_is_refused() -> None:
    raw = msgspec.msgpack.decode(encode_question(Configure(plan_of({"here": "0"}, "tracked"))))
    raw[2][0]["protocol"] = FUTURE
    with pytest.raises(ControlError, match=REMEDY) as refused:
        decode_question(msgspec.msgpack.encode(raw))
    assert refused.value.code is ErrorCode.INCOMPATIBLE_VERSION


def test_a_channel_of_the_previous_version_is_understood_and_another_is_refused() -> None:
    for version in (PREVIOUS, PROTOCOL, FUTURE):
        opening = Opening("w", "worker", "m", b"n" * 32, protocol=version)
        receiver = ReceiverHandshake("secret", "m")
        if version != FUTURE:
            assert receiver.received(msgspec.msgpack.encode(opening)) is not None
            continue
        with pytest.raises(NotAuthenticated, match=REMEDY) as refused:
            receiver.received(msgspec.msgpack.encode(opening))
        assert refused.value.refusal is not None
        assert refused.value.refusal.code is RefusalCode.INCOMPATIBLE_VERSION


def test_a_channel_of_a_release_that_sends_the_secret_is_refused_with_the_remedy() -> None:
    receiver = ReceiverHandshake("secret", "m")
    with pytest.raises(NotAuthenticated) as refused:
        receiver.received(msgspec.msgpack.encode(["hello", "secret", "w", "worker", HOST, 1]))
    assert refused.value.refusal is not None
    assert "same release" in refused.value.refusal.reason


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[tuple[EmbeddedCluster, Records]]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec.model_validate({"controllers": QUIET}), CLOCK)
    endpoint = await cluster.start()
    spec = ConnectSpec(name="hub", mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token)
    client = await ClusterClient.connect(spec, CLOCK)
    yield cluster, Records(client, "t", "default")
    await client.close()
    await cluster.stop()


async def test_a_record_of_the_previous_version_is_understood_and_another_is_refused(hub: tuple[EmbeddedCluster, Records]) -> None:
    cluster, records = hub
    written = await records.write("slo", {"book": "x"}, None)
    assert written.data == {"book": "x"}
    assert cluster.api.get("configmaps", "default", "raycp-t-slo")["data"][PROTOCOL_KEY] == str(PROTOCOL)

    async def rewrite(version: str | None) -> None:
        patch = msgspec.json.encode({"data": {PROTOCOL_KEY: version}})
        await cluster.api.patch_merge("configmaps", "default", "raycp-t-slo", patch)

    for version in (None, str(PREVIOUS), str(PROTOCOL)):
        await rewrite(version)
        found = await records.read("slo")
        assert found is not None
        assert found.data == {"book": "x"}
        assert (await records.list(""))["slo"].data == {"book": "x"}
    for version in (str(FUTURE), "nonsense"):
        await rewrite(version)
        with pytest.raises(IncompatibleRecord, match=r"ConfigMap default/raycp-t-slo has protocol version.*same release"):
            await records.read("slo")
        with pytest.raises(IncompatibleRecord):
            await records.list("")

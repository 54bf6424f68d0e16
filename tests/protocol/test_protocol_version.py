"""The protocol version of what processes exchange and store: the previous one is understood, any other refused with the remedy."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, HOST, QUIET, plan_of, until

from raycp.base.protocol_version import PREVIOUS, PROTOCOL
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectSpec
from raycp.leadership.records import PROTOCOL_KEY, IncompatibleRecord, Records
from raycp.protocol.control import Configure, ControlError, ErrorCode, PlanOf, ReportAfter
from raycp.protocol.control.codec import decode_answer, decode_question, encode_answer, encode_question, respond
from raycp.protocol.frames import Hello, Message, Pull, Refusal, RefusalCode, decode_body
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.transport import dial, listen

FUTURE = PROTOCOL + 1
REMEDY = f"has protocol version {FUTURE}.*understands {PREVIOUS} and {PROTOCOL}.*same release"


class Messages:
    """A peer that keeps what it receives."""

    def __init__(self) -> None:
        self.received_messages: list[Message] = []

    def received(self, message: Message) -> None:
        self.received_messages.append(message)

    def lost(self) -> None: ...


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


async def test_a_hello_of_the_previous_version_is_understood_and_another_is_refused() -> None:
    accepted: list[int] = []

    def accept(connection: object, hello: Hello) -> Messages:
        accepted.append(hello.protocol)
        return Messages()

    server, port = await listen(HOST, "t", accept)
    for version in (PREVIOUS, PROTOCOL):
        connection = await dial(HOST, port, Hello("t", "m", "worker", HOST, 1, protocol=version), Messages())
        await until(lambda: version in accepted)  # noqa: B023
        connection.close()
    caller = Messages()
    connection = await dial(HOST, port, Hello("t", "m", "worker", HOST, 1, protocol=FUTURE), caller)
    await until(lambda: connection.closed)
    (refusal,) = caller.received_messages
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.INCOMPATIBLE_VERSION
    assert "same release" in refusal.reason
    assert FUTURE not in accepted
    server.close()


def test_a_hello_without_a_version_is_understood() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(Hello("t", "m", "worker", HOST, 1)))
    assert decode_body(msgspec.msgpack.encode(fields[:-1])) == Hello("t", "m", "worker", HOST, 1)
    assert decode_body(msgspec.msgpack.encode(Pull(1))) == Pull(1)


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

"""Does a Ray head answer? Asked before and beside Ray's own calls, which wait for minutes and take no signal meanwhile."""

import socket
import time

import grpc
from ray._private.grpc_utils import init_grpc_channel

from raycp.protocol.control.codec import first_line

_HEALTH = "/grpc.health.v1.Health/Check"
"""Every gRPC server of Ray has it (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

_GUARDED = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""The first call of whoever joins; it needs the token, and no message (src/ray/protobuf/gcs_service.proto)."""

_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
"""A missing or wrong token is an answer, too."""


def silence(address: str, within: float = 3.0) -> str:
    """Why no Ray head answers at ``HOST:PORT`` within so many seconds; empty where one does. Blocks; to be called in a thread."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdecimal():  # a URL is that of a job server
        return f"{address!r} is not HOST:PORT"
    end = time.monotonic() + within
    try:
        # Which of the two it is, nobody or a stranger, gRPC does not tell.
        socket.create_connection((host.strip("[]"), int(port)), timeout=within).close()
    except TimeoutError:
        return f"no connection within {within:g} s"
    except (OSError, OverflowError, UnicodeError) as error:
        return first_line(error)
    channel = init_grpc_channel(address.removeprefix("ray://"))
    try:
        check = channel.unary_unary(_HEALTH, request_serializer=bytes, response_deserializer=bytes)
        check(b"", timeout=max(0.1, end - time.monotonic()))
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNAVAILABLE
        if code not in _REFUSALS:
            return "a process listens there, but does not answer as a Ray head"
    finally:
        channel.close()
    return ""


def open_to_all(address: str, within: float = 3.0) -> bool:
    """Whether the Ray head at ``HOST:PORT`` answers who shows no token: then whoever reaches it runs code there."""
    with grpc.insecure_channel(address.removeprefix("ray://")) as channel:
        ask = channel.unary_unary(_GUARDED, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=within)
        except grpc.RpcError:
            return False
    return True

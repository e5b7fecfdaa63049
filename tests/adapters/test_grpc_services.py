"""What every server of ours serves beside its own: health, reflection, channelz."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.adapters.echo_server import SERVICE, refused, running

pytestmark = pytest.mark.asyncio


async def test_health_knows_each_service() -> None:
    async with running() as run:
        health: Any = health_pb2_grpc.HealthStub(run.channel)
        messages: Any = health_pb2
        listed = await health.List(messages.HealthListRequest())
        assert {"", SERVICE, "grpc.health.v1.Health"} <= set(listed.statuses)
        code, _, _ = await refused(health.Check(health_pb2.HealthCheckRequest(service="nope")))
        assert code is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == 1
        run.server.health.set_serving(False)
        assert (await watch.read()).status == 2
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(version: str) -> None:
    request = reflection_pb2.ServerReflectionRequest
    async with running() as run:
        call = run.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            request(list_services=""),
            request(file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"),
            request(file_containing_symbol="google.rpc.ErrorInfo"),
            request(file_by_filename="nowhere.proto"),
        ]
        listed, own, error_info, missing = [answer async for answer in call(iter(asked))]
        assert SERVICE in [service.name for service in listed.list_services_response.service]
        file = descriptor_pb2.FileDescriptorProto.FromString(
            own.file_descriptor_response.file_descriptor_proto[0]
        )
        assert file.package == f"grpc.reflection.{version}"
        assert len(error_info.file_descriptor_response.file_descriptor_proto) == 2
        assert missing.error_response.error_code == 5


async def test_channelz_is_for_admins_behind_a_switch() -> None:
    path = "/grpc.channelz.v1.Channelz/GetServers"
    async with running() as run:
        closed: Any = run.channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await closed(b"", metadata=run.token(roles=frozenset({"admin"})))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with running(channelz=True) as run:
        opened: Any = run.channel.unary_unary(
            path, response_deserializer=channelz_pb2.GetServersResponse.FromString
        )
        code, info, _ = await refused(opened(b"", metadata=run.token()))
        assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
        assert (await opened(b"", metadata=run.token(roles=frozenset({"admin"})))).server

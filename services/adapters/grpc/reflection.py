"""Server reflection, v1 and v1alpha, over a descriptor set that keeps comments and JSON names.

Python's embedded descriptors have neither, which is why the build makes the set. The two versions of the
protocol differ in nothing but the name of their package.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from importlib import resources
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


def installed_descriptors() -> bytes:
    """The descriptor set of our contract, as built; empty in a checkout that was never built."""
    found = resources.files("weconnect") / "descriptors.binpb"
    return found.read_bytes() if found.is_file() else b""


class ReflectionServicer:
    """Answers from an index of files by name and by symbol."""

    def __init__(self, descriptors: bytes) -> None:
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._symbols: dict[str, str] = {}
        self.services: list[str] = []
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            self._add(file)
        for module in (health_pb2, reflection_pb2, status_pb2, error_details_pb2):
            self._add_module(module.DESCRIPTOR)
        self._add(_renamed(self._files[reflection_pb2.DESCRIPTOR.name]))

    def register(self, server: Any) -> None:
        """Add both versions to a server."""
        for service in SERVICES:
            handler = grpc.stream_stream_rpc_method_handler(
                self.ServerReflectionInfo, Request.FromString, Response.SerializeToString
            )
            server.add_registered_method_handlers(service, {"ServerReflectionInfo": handler})

    async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer each request in turn."""
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        response = Response(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            response.list_services_response.SetInParent()
            for name in sorted(self.services):
                response.list_services_response.service.add(name=name)
            return response
        names: list[str] = []
        if kind == "file_by_filename":
            names = self._closure(request.file_by_filename)
        elif kind == "file_containing_symbol":
            names = self._closure(self._symbols.get(request.file_containing_symbol, ""))
        elif (
            kind == "all_extension_numbers_of_type" and request.all_extension_numbers_of_type in self._symbols
        ):
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            return response
        if not names:
            response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            response.error_response.error_message = "not found"
            return response
        response.file_descriptor_response.file_descriptor_proto.extend(
            self._files[name].SerializeToString() for name in names
        )
        return response

    def _closure(self, name: str) -> list[str]:
        """The file and all it depends on, itself first."""
        if name not in self._files:
            return []
        ordered, waiting = dict.fromkeys([name]), [name]
        while waiting:
            for dependency in self._files[waiting.pop()].dependency:
                if dependency not in ordered and dependency in self._files:
                    ordered[dependency] = None
                    waiting.append(dependency)
        return list(ordered)

    def _add(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        if file.name in self._files:
            return
        self._files[file.name] = file
        for symbol in _symbols(file):
            self._symbols[symbol] = file.name

    def _add_module(self, descriptor: Any) -> None:
        for dependency in descriptor.dependencies:
            self._add_module(dependency)
        file = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(file)
        self._add(file)


def _renamed(alpha: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """The v1 file: the same messages in the package without `alpha`."""
    raw = descriptor_pb2.FileDescriptorProto()
    raw.CopyFrom(alpha)
    raw.name, raw.package = "grpc/reflection/v1/reflection.proto", _V1
    raw.ClearField("options")
    for method in (method for service in raw.service for method in service.method):
        method.input_type = method.input_type.replace(_ALPHA, _V1)
        method.output_type = method.output_type.replace(_ALPHA, _V1)
    for message in raw.message_type:
        for field in message.field:
            field.type_name = field.type_name.replace(_ALPHA, _V1)
    return raw


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    prefix = f"{file.package}." if file.package else ""
    yield from _of_messages(prefix, file.message_type)
    yield from _of_enums(prefix, file.enum_type)
    for service in file.service:
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


def _of_messages(prefix: str, messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterator[str]:
    for message in messages:
        name = prefix + message.name
        yield name
        yield from (f"{name}.{field.name}" for field in message.field)
        yield from _of_messages(f"{name}.", message.nested_type)
        yield from _of_enums(f"{name}.", message.enum_type)


def _of_enums(prefix: str, enums: Iterable[descriptor_pb2.EnumDescriptorProto]) -> Iterator[str]:
    for enum in enums:
        yield prefix + enum.name
        yield from (f"{prefix}{value.name}" for value in enum.value)

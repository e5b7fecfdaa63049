"""Channelz (grpc.channelz.v1): what the server's connections and calls are doing. Behind a switch, for admins only."""

from __future__ import annotations

from typing import Any

SERVICE = "grpc.channelz.v1.Channelz"
ADMIN = "admin"
_METHODS = (
    "GetTopChannels",
    "GetServers",
    "GetServer",
    "GetServerSockets",
    "GetChannel",
    "GetSubchannel",
    "GetSocket",
)
CHANNELZ_ROLES = {f"/{SERVICE}/{method}": ADMIN for method in _METHODS}


def add_channelz(server: Any) -> None:
    """Add the service. Needs the extra `admin`; imported here so that nobody else does."""
    from grpc_channelz.v1 import _async, channelz_pb2_grpc

    channelz_pb2_grpc.add_ChannelzServicer_to_server(_async.ChannelzServicer(), server)

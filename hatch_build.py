"""Compiles protos/ into sdk/weconnect/ whenever the project is installed or built; by hand: `python hatch_build.py`.

Makes messages, their type stubs, gRPC stubs with types, and `sdk/weconnect/descriptors.binpb`: the contract with
its comments, which reflection serves. All of it is ignored by git. Files that did not change are not touched.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
DESCRIPTORS = Path("weconnect") / "descriptors.binpb"
PACKAGE_DOCSTRING = '"""Generated from protos/ when the project is installed."""\n'
# An execution's error holds an ErrorInfo in an Any: whoever prints it as JSON needs the type to be known.
ERROR_DETAILS = (
    "\nfrom google.rpc import error_details_pb2 as _error_details  # noqa: F401 - makes the types known\n"
)


class CompileProtos(BuildHookInterface[Any]):
    """Build hook of hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed, for wheels and editable installs alike."""
        compile_protos(Path(self.root))


def compile_protos(root: Path) -> None:
    """Compile the contract under `root`; raises CalledProcessError after protoc has printed what is wrong."""
    protos = root / "protos"
    sources = [str(path.relative_to(protos)) for path in sorted(protos.glob("weconnect/**/*.proto"))]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made"
        (made / DESCRIPTORS.parent).mkdir(parents=True)
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{root / 'third_party'}"),
            *(f"--python_out={made}", f"--pyi_out={made}", f"--grpc_python_out={made}"),
            f"--plugin=protoc-gen-mypy_grpc={_typed_grpc_plugin(Path(scratch))}",
            f"--mypy_grpc_out=quiet:{made}",
            *("--include_imports", "--include_source_info", f"--descriptor_set_out={made / DESCRIPTORS}"),
            *sources,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for path in made.rglob("*_pb2_grpc.py*"):
            if "ServiceServicer" not in path.read_text():
                path.unlink()  # a file without a service has no stubs worth importing
        for folder in {path.parent for path in made.rglob("*_pb2.py")}:
            for package in (folder, folder.parent):
                (package / "__init__.py").write_text(PACKAGE_DOCSTRING)
        with (made / "weconnect/executions/v1/__init__.py").open("a") as package_file:
            package_file.write(ERROR_DETAILS)
        _move(made, root / "sdk")


def _typed_grpc_plugin(scratch: Path) -> Path:
    """Make the protoc plugin an executable file: an isolated build has no scripts on its PATH."""
    plugin = scratch / "protoc-gen-mypy_grpc"
    code = "from mypy_protobuf.main import grpc; grpc()"
    plugin.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return plugin


def _move(made: Path, target: Path) -> None:
    """Put new and changed files in place, each at once, and remove those whose source is gone."""
    fresh = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    for relative in sorted(fresh):
        source, destination = made / relative, target / relative
        if destination.exists() and destination.read_bytes() == source.read_bytes():
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = destination.with_name(f".{destination.name}.{os.getpid()}")
        partial.write_bytes(source.read_bytes())
        partial.replace(destination)
    for path in (target / "weconnect").rglob("*_pb2*"):
        if path.name.endswith(GENERATED_SUFFIXES) and path.relative_to(target) not in fresh:
            path.unlink()


if __name__ == "__main__":
    compile_protos(Path(__file__).parent)

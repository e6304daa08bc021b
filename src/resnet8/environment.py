"""What a number was measured with: versions of the libraries that matter, and the CPU.

The CPU is part of a quantized network's result: ONNX Runtime's int8 kernels saturate intermediate sums on x86 CPUs
without VNNI (ONNX Runtime documentation, «Quantize ONNX models», section on U8S8 and AVX2).
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "keras",
    "tf2onnx",
    "torch",
    "torchao",
    "onnx2torch",
    "ai-edge-litert",
)
"""The distributions whose versions can change a result."""

_NUMPY_NAMES = {
    "sse4_1": "SSE41",
    "sse4_2": "SSE42",
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA3",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512BW",
    "avx512_vnni": "AVX512VNNI",
}
"""What NumPy calls those of :data:`CPU_FLAGS` that it asks the CPU for."""

CPU_FLAGS = (*_NUMPY_NAMES, "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""The instruction sets (names as in Linux' /proc/cpuinfo) that decide which integer kernels run."""


@dataclass(frozen=True)
class Cpu:
    """The processor: its name, the :data:`CPU_FLAGS` it has, and how many logical CPUs this process may use."""

    model: str
    flags: tuple[str, ...]
    logical_cpus: int


@dataclass(frozen=True)
class Environment:
    """Everything outside the inputs that a measured number depends on."""

    resnet8: str
    python: str
    platform: str
    libraries: dict[str, str]
    cpu: Cpu


@cache
def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Version of each installed distribution of ``names``, without importing any of them."""
    versions = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def package_version() -> str:
    """Version of this package."""
    return metadata.version("resnet8")


@cache
def cpu() -> Cpu:
    """The CPU this process runs on.

    Flags come from /proc/cpuinfo; where NumPy's own CPUID detection disagrees (a user-mode emulator passes the host's
    /proc through), NumPy is believed. On systems without /proc/cpuinfo, NumPy's detection alone is used.
    """
    # No public function returns what numpy.show_runtime() prints.
    from numpy._core._multiarray_umath import __cpu_features__ as detected  # type: ignore[import-not-found]

    model, listed = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields: dict[str, str] = {}
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
        model = fields.get("model name", model)
        listed = set((fields.get("flags") or fields.get("features") or "").split())
    else:
        names = {feature: flag for flag, feature in _NUMPY_NAMES.items()}
        listed = {names.get(name, name.lower()) for name, there in detected.items() if there}
    unseen = {flag for flag, feature in _NUMPY_NAMES.items() if flag in listed and detected.get(feature) is False}
    if unseen:
        # What builds on a missing instruction set is missing too; and what NumPy does not ask for is not to be trusted
        # in a file that is another CPU's.
        built_on = {
            "avx": ("avx", "fma", "amx"),
            "avx2": ("avx2", "avx_vnni", "avx512", "amx"),
            "avx512f": ("avx512", "amx"),
        }
        gone = tuple(prefix for flag in unseen for prefix in built_on.get(flag, (flag,)))
        listed = {flag for flag in listed if not flag.startswith(gone)} - {"avx_vnni", "amx_int8"}
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(model=model, flags=tuple(flag for flag in CPU_FLAGS if flag in listed), logical_cpus=available)


def has_vnni(processor: Cpu) -> bool:
    """Whether the CPU multiplies u8 x s8 into int32 without an int16 step in between (AVX512-VNNI or AVX-VNNI)."""
    return bool({"avx512_vnni", "avx_vnni"} & set(processor.flags))


def current() -> Environment:
    """The environment of this process."""
    return Environment(
        resnet8=package_version(),
        python=platform.python_version(),
        platform=f"{sys.platform} {platform.machine()}",
        libraries=dict(library_versions()),
        cpu=cpu(),
    )

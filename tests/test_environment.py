"""What a number was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resnet8 import environment
from resnet8.environment import CPU_FLAGS, Cpu, cpu, current, has_vnni, library_versions, package_version

# The dictionary behind numpy.show_runtime(), which the module reads too.
from numpy._core._multiarray_umath import __cpu_features__ as detected  # isort: skip

SAPPHIRE_RAPIDS = "fpu sse4_1 sse4_2 avx avx2 fma avx512f avx512bw avx512_vnni avx_vnni amx_int8"
NUMPY_SAPPHIRE_RAPIDS = dict.fromkeys(("SSE41", "SSE42", "AVX", "FMA3", "AVX2", "AVX512F", "AVX512BW", "AVX512VNNI"), 1)


def cpu_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, features: dict[str, bool | int]
) -> Cpu:
    """:func:`cpu` of a machine with this /proc/cpuinfo, where NumPy detects ``features``."""
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(environment, "Path", lambda name: path if name == "/proc/cpuinfo" else Path(name))
    for name in list(detected):
        monkeypatch.setitem(detected, name, bool(features.get(name, False)))
    return cpu.__wrapped__()


def flags_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, features: dict[str, bool | int]) -> set[str]:
    return set(cpu_of(tmp_path, monkeypatch, f"flags\t: {flags}\n", features).flags)


def test_this_cpu() -> None:
    processor = cpu()
    assert set(processor.flags) <= set(CPU_FLAGS)
    assert processor.flags == tuple(flag for flag in CPU_FLAGS if flag in processor.flags)  # once each, in order
    assert processor.model
    assert processor.logical_cpus == len(os.sched_getaffinity(0))
    assert cpu() is processor  # looked up once


def test_flags_agree_with_numpy() -> None:
    found = set(cpu().flags)
    for feature, flag in (("AVX2", "avx2"), ("AVX512F", "avx512f"), ("AVX512VNNI", "avx512_vnni"), ("FMA3", "fma")):
        assert (flag in found) == bool(detected.get(feature)), flag


def test_reads_cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"processor : 0\nmodel name\t: First CPU\nflags\t\t: {SAPPHIRE_RAPIDS}\n\nmodel name\t: Second\nflags\t: x\n"
    found = cpu_of(tmp_path, monkeypatch, text, NUMPY_SAPPHIRE_RAPIDS)
    assert found.model == "First CPU"
    assert set(found.flags) == set(SAPPHIRE_RAPIDS.split()) - {"fpu"}


def test_reads_an_arm_cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cpu_of(tmp_path, monkeypatch, "Features\t: fp asimd asimddp i8mm\n", {"NEON": 1, "ASIMD": 1, "ASIMDDP": 1})
    assert found.flags == ("asimd", "asimddp", "i8mm")
    assert found.model  # ARM's has no model name


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (("AVX512VNNI",), {"avx512_vnni", "avx_vnni", "amx_int8"}),
        (("AVX512F", "AVX512BW", "AVX512VNNI"), {"avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"}),
        (
            ("AVX2", "AVX512F", "AVX512BW", "AVX512VNNI"),
            {"avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"},
        ),
        (  # a Sandy Bridge has neither AVX2 nor fused multiply-adds
            ("FMA3", "AVX2", "AVX512F", "AVX512BW", "AVX512VNNI"),
            {"fma", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"},
        ),
    ],
)
def test_an_emulated_cpu_is_not_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], gone: set[str]
) -> None:
    """A user-mode emulator shows the host's /proc/cpuinfo: NumPy asks the CPU itself, and is believed.

    AVX-VNNI and AMX are not among what NumPy asks for: where the file is the host's, it is no evidence.
    """
    emulated = {name: there for name, there in NUMPY_SAPPHIRE_RAPIDS.items() if name not in missing}
    found = cpu_of(tmp_path, monkeypatch, f"flags\t: {SAPPHIRE_RAPIDS}\n", emulated)
    assert set(SAPPHIRE_RAPIDS.split()) - {"fpu"} - set(found.flags) == gone
    assert not has_vnni(found)


def test_avx_vnni_without_avx512_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alder Lake: AVX-VNNI, no AVX-512, and a /proc/cpuinfo of its own."""
    features = {"SSE41": 1, "SSE42": 1, "AVX": 1, "FMA3": 1, "AVX2": 1}
    found = flags_of(tmp_path, monkeypatch, "sse4_1 sse4_2 avx avx2 fma avx_vnni", features)
    assert found == {"sse4_1", "sse4_2", "avx", "avx2", "fma", "avx_vnni"}


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cpu_of(tmp_path, monkeypatch, None, NUMPY_SAPPHIRE_RAPIDS)
    assert found.flags == ("sse4_1", "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni")
    assert found.model == (platform.processor() or platform.machine())


@pytest.mark.parametrize(
    ("flags", "vnni"),
    [((), False), (("avx2", "avx512f"), False), (("avx512_vnni",), True), (("avx2", "avx_vnni"), True)],
)
def test_has_vnni(flags: tuple[str, ...], vnni: bool) -> None:
    assert has_vnni(Cpu("x", flags, 1)) is vnni


def test_versions() -> None:
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert versions["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert library_versions(("numpy", "no-such-distribution")) == {"numpy": np.__version__}
    assert package_version() == importlib.metadata.version("resnet8")


def test_versions_import_nothing() -> None:
    program = (
        "import sys; from resnet8.environment import current; found = current().libraries; "
        "assert not {'torch', 'tensorflow', 'onnxruntime', 'onnx', 'keras'} & sys.modules.keys(); print(*found)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert {"numpy", "onnx", "onnxruntime"} <= set(done.stdout.split())


def test_current() -> None:
    found = current()
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.platform == f"{sys.platform} {platform.machine()}"
    assert found.cpu == cpu()
    found.libraries.clear()  # a copy: the next one is whole
    assert current().libraries == library_versions() != {}

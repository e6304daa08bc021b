"""Measure the speed and memory of the commands, as ratios within one run, and write docs/benchmarks.md.

    uv run python benchmarks/measure.py --assets-dir DIR

Each command runs as a whole process (imports, reading, everything), the bare loops in processes of their own. Absolute
times are this machine's; the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet8 import environment
from resnet8.data.cifar10 import find

HERE = Path(__file__).resolve().parent
RESNET8 = [sys.executable, "-m", "resnet8"]


@dataclass(frozen=True)
class Measured:
    """Median wall seconds and largest peak memory of one command over some runs."""

    what: str
    seconds: float
    peak_mb: float


def run(what: str, command: list[str], runs: int = 3, warmup: int = 1) -> Measured:
    """Run a command ``warmup + runs`` times as whole processes."""
    seconds, peaks = [], []
    for i in range(warmup + runs):
        started = time.perf_counter()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                output.seek(0)
                sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()}")
        if i >= warmup:
            seconds.append(time.perf_counter() - started)
            peaks.append(usage.ru_maxrss / 1024)
    print(f"{what}: {statistics.median(seconds):.2f} s, {max(peaks):.0f} MB", flush=True)
    return Measured(what, round(statistics.median(seconds), 2), round(max(peaks)))


def bare(script: str, *arguments: str | Path) -> float:
    """Seconds that a bare loop says it took: the median of three processes."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    print(f"{script} {arguments}: {statistics.median(times):.2f} s", flush=True)
    return round(statistics.median(times), 2)


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs/benchmarks.md")
    options = parser.parse_args()
    data = str(options.assets_dir)
    with tempfile.TemporaryDirectory() as folder:
        reproduce = [*RESNET8, "reproduce", "--assets-dir", data, "--output-dir", folder]
        first = run("reproduce, first run", reproduce, runs=1, warmup=0)
        second = run("reproduce, nothing changed", reproduce)
        models = Path(folder) / "models"
        empty = run("python, nothing", [sys.executable, "-c", ""])
        help_ = run("--help", [*RESNET8, "--help"])
        ort = run("evaluate resnet8.onnx", [*RESNET8, "evaluate", str(models / "resnet8.onnx"), "--data-dir", data])
        torch = run("evaluate resnet8.pt", [*RESNET8, "evaluate", str(models / "resnet8.pt"), "--data-dir", data])
        scripts, batches = HERE.parent / "scripts", find(options.assets_dir)
        quantized = [
            (
                f"`scripts/{script}`",
                run(
                    script,
                    [
                        sys.executable,
                        str(scripts / script),
                        "--model",
                        str(models / model),
                        "--data-dir",
                        data,
                        *outputs,
                    ],
                ),
                run(bare_, [sys.executable, str(HERE / bare_), str(models / "resnet8.onnx"), str(batches), folder]),
                f"`{bare_}`",
            )
            for script, model, outputs, bare_ in (
                (
                    "quantize_onnx.py",
                    "resnet8.onnx",
                    ["--output-int8", f"{folder}/a.onnx", "--output-uint8", f"{folder}/b.onnx"],
                    "bare_quantize_ort.py",
                ),
                ("quantize_pytorch.py", "resnet8.pt", ["--output", f"{folder}/a.pt"], "bare_quantize_torch.py"),
            )
        ]
        int8 = run(
            "evaluate resnet8_int8.pt", [*RESNET8, "evaluate", str(models / "resnet8_int8.pt"), "--data-dir", data]
        )
        bare_int8 = [
            run(
                f"bare, {size} at once",
                [
                    sys.executable,
                    str(HERE / "bare_evaluate_torch.py"),
                    str(models / "resnet8_int8.pt"),
                    str(batches),
                    str(size),
                ],
            )
            for size in (1, 64)
        ]
        bare_ort = min(bare("bare_ort.py", models / "resnet8.onnx", data, str(size)) for size in (16, 50, 100, 200))
        bare_torch = bare("bare_torch.py", models / "resnet8.onnx", data)
    rows = [
        ("`resnet8 --help`", help_, f"{help_.seconds - empty.seconds:.2f} s more than an empty Python"),
        (
            "`evaluate resnet8.onnx`, 10,000 images",
            ort,
            f"{ort.seconds / bare_ort:.2f} x bare `session.run` ({bare_ort} s)",
        ),
        (
            "`evaluate resnet8.pt`, 10,000 images",
            torch,
            f"{torch.seconds / bare_torch:.2f} x the onnx2torch module, one image at a time ({bare_torch} s)",
        ),
        (
            "`evaluate resnet8_int8.pt`, 10,000 images",
            int8,
            " and ".join(
                f"{int8.seconds / one.seconds:.2f} x PyTorch alone, {size} at once ({one.seconds} s)"
                for size, one in zip((1, 64), bare_int8, strict=True)
            ),
        ),
        *(
            (name, ours, f"{ours.seconds / theirs.seconds:.2f} x {words} ({theirs.seconds} s)")
            for name, ours, theirs, words in quantized
        ),
        ("`reproduce`, first run", first, ""),
        ("`reproduce`, nothing changed", second, f"{second.seconds / first.seconds:.3f} x the first"),
    ]
    table = "\n".join(f"| {name} | {one.seconds:.2f} s | {one.peak_mb:.0f} MB | {ratio} |" for name, one, ratio in rows)
    options.output.write_text(
        "# Benchmarks\n\n<!-- Written by benchmarks/measure.py; do not edit. -->\n\n"
        "Whole processes: median of three after a warm-up (the first `reproduce`: once). Memory: the largest single "
        "process.\n\n| command | wall | peak memory | ratio within this run |\n| --- | ---: | ---: | --- |\n"
        f"{table}\n\n```json\n{json.dumps(asdict(environment.current()), indent=1)}\n```\n"
    )


if __name__ == "__main__":
    main()

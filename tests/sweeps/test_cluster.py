"""Cells on a Dask cluster of this machine: the same numbers, whatever becomes of its workers."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from distributed import LocalCluster

from resnet8.errors import MissingExtraError, WorkerError
from resnet8.quantization.scheme import Scheme
from resnet8.sweeps import cells, places
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.cluster import Cluster
from resnet8.sweeps.places import Here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resnet8.sweeps.ground import Material

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Dask's own

ASKED = [Cell(Scheme(weight_bits=bits, activation_bits=bits), seed) for bits in (2, 4, 6, 8) for seed in (42, 43)]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with warnings.catch_warnings(action="ignore"):
        here = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
        yield here
        here.close()


def test_a_killed_worker_loses_no_cell_but_its_own(cluster: LocalCluster, material: Material, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        assert total == len(ASKED)
        if done == 1 and not killed:
            killed.append(next(iter(cluster.workers.values())).process.pid)
            os.kill(killed[0], signal.SIGKILL)

    with Cluster(cluster.scheduler_address) as place:
        found = measure_all(material, ASKED, place, tmp_path / "there", kill)
    assert killed
    wanted = measure_all(material, ASKED, Here(1), tmp_path / "here")
    assert [replace(one, seconds=0) for one in found] == [replace(one, seconds=0) for one in wanted]
    assert {file.name for file in (tmp_path / "there").iterdir()} == {
        file.name for file in (tmp_path / "here").iterdir()
    }


def test_a_scheduler_that_goes_away(cluster: LocalCluster, material: Material, tmp_path: Path) -> None:
    def close(done: int, _: int) -> None:
        if done == 1:
            cluster.close()

    with (
        Cluster(cluster.scheduler_address, seconds=2) as place,
        pytest.raises(WorkerError, match=r"scheduler at tcp://.* is gone.*run this command again") as caught,
    ):
        measure_all(material, ASKED, place, tmp_path, close)
    assert caught.value.found
    kept = len(list(tmp_path.iterdir()))
    assert 1 <= kept < len(ASKED)
    assert len(measure_all(material, ASKED, Here(1), tmp_path)) == len(ASKED)


def test_workers_with_other_versions(
    cluster: LocalCluster, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = cells.versions()
    with Cluster(cluster.scheduler_address) as place:
        monkeypatch.setattr(cells, "versions", lambda *_: same | {"numpy": "1.0.0"})
        with pytest.raises(WorkerError, match=r"has other versions than the process that asks it.*numpy 1\.0\.0"):
            measure_all(material, ASKED[:1], place, tmp_path)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(WorkerError, match=r"the worker tcp://.* found numpy .*, expected numpy 1\.0\.0; install"):
            Cluster(cluster.scheduler_address)


def test_no_workers() -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as empty,
        pytest.raises(WorkerError, match=r"has no workers.*dask worker tcp://"),
    ):
        Cluster(empty.scheduler_address, seconds=1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "nonsense://127.0.0.1:1", ""])
def test_no_scheduler(address: str) -> None:
    with pytest.raises(WorkerError, match=r"no Dask scheduler answers at .*dask scheduler"):
        Cluster(address, seconds=0.5)


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "resnet8.sweeps.cluster")
    with pytest.raises(MissingExtraError, match="dask"):
        places.place(scheduler="tcp://127.0.0.1:1")

"""The scan on Ray: the same rows as without, resumed into the same log, and a machine that dies half-way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClip
from scan_kit import plain, write_toy_model
from test_examples import CLIPS, EXAMPLES, run_script

from grainscan.errors import DependencyError
from grainscan.options import PredictConfig
from grainscan.scan import ray as cluster
from grainscan.scan.log import ResultLog
from grainscan.scan.ray import FILES_AT_ONCE, _in_order, scan_on_ray
from grainscan.scan.scanner import Scanner


def test_results_are_put_in_order_under_their_own_names() -> None:
    row = {"status": "error", "error": {"message": "/x/b.avi: broken"}, "path": "/x/b.avi"}
    arrived: list[tuple[int, dict[str, Any]]] = [(1, row), (0, {"status": "ok", "path": "/x/a.avi"})]
    rows = list(_in_order(iter(arrived), ["a.avi", "b.avi"], ["/x/a.avi", "/x/b.avi"]))
    assert rows == [
        {"status": "ok", "path": "a.avi"},
        {"status": "error", "error": {"message": "b.avi: broken"}, "path": "b.avi"},
    ]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError) as caught:
        list(scan_on_ray(PredictConfig(), ["a.avi"]))
    assert "pip install 'ray[data]'" in caught.value.hint


def test_nothing_to_do_starts_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_connect", lambda _: pytest.fail("started a cluster"))
    assert list(scan_on_ray(PredictConfig(), [])) == []


MACHINE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two machines with a processor each."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(cluster.__file__).parents[2]), *sys.path])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # On a busy machine, starting takes longer, and workers with Ray's usual niceness would get nothing at all.
    os.environ.update({"RAY_raylet_start_wait_time_s": "300", "RAY_worker_niceness": "0"})
    machines = Cluster(initialize_head=True, head_node_args={**MACHINE, "include_dashboard": False})
    machines.add_node(**MACHINE)
    ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
    yield machines
    ray.shutdown()
    machines.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_machines_give_the_rows_of_one(
    nodes: Any, tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_toy_model(tmp_path / "model")
    for number in range(40):
        make_clip(f"{number:02}.avi", frames=4 + number % 9, seed=number, width=64, height=48)
    (tmp_path / "07.avi").write_bytes(b"broken")
    (tmp_path / os.fsdecode(b"\xff name.avi")).write_bytes((tmp_path / "01.avi").read_bytes())
    monkeypatch.chdir(tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.avi"))
    names.append("missing.avi")
    with Scanner(model, maps=True) as scanner:
        expected = [plain(row) for row in scanner.scan(names)]
        config = PredictConfig(model=str(model), ray="auto")
        assert [plain(row) for row in scan_on_ray(config, names, maps=True)] == expected
        assert [row["status"] for row in expected].count("error") == 2
        # and into a log that a scan on one machine had begun
        with ResultLog(tmp_path / "scan.jsonl", scanner.fingerprint) as log:
            for row in scanner.scan(names[:10]):
                log.append(row)
        with ResultLog(tmp_path / "scan.jsonl", scanner.fingerprint) as log:
            pending = log.pending(names)
            assert len(pending) == len(names) - 9
            for row in scan_on_ray(config, pending, maps=True):
                log.append(row)
            log.finish()
            kept = [{key: value for key, value in plain(row).items() if key != "settings"} for row in log.rows()]
    assert kept == sorted(expected, key=lambda row: row["path"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_machine_that_dies_loses_nothing(nodes: Any, tmp_path: Path, make_clip: MakeClip) -> None:
    model = write_toy_model(tmp_path / "model")
    clip = make_clip("clip.avi", frames=4, width=64, height=48)
    names = []
    for number in range(160):
        names.append(str(tmp_path / f"{number:03}.avi"))
        Path(names[-1]).write_bytes(clip.read_bytes())
    victim = nodes.add_node(**MACHINE)
    nodes.wait_for_nodes()

    rows = []
    for row in scan_on_ray(PredictConfig(model=str(model), ray="auto"), names):
        rows.append(row)
        if len(rows) == 2 * FILES_AT_ONCE:
            nodes.remove_node(victim, allow_graceful=False)
    assert [row["path"] for row in rows] == names
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_for_many_machines(nodes: Any, tmp_path: Path) -> None:
    library, log = EXAMPLES / "clips", tmp_path / "scan.jsonl"
    said = run_script(EXAMPLES / "many_machines.py", library, log, nodes.address, cwd=tmp_path)
    shown = said.splitlines()[-len(CLIPS) :]
    assert sorted(line.split("  ")[1] for line in shown) == CLIPS
    assert "grainy" in shown[0]

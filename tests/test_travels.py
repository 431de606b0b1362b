"""What uses `sk` travels to other processes: functions, experiments and histories, by each means of sending them."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import sparsekit as sk

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
import sparsekit as sk

def density_of_ten():
    topology = sk.random_topology({"layer": (20, 50)}, 0.1, seed=0)
    return topology.count, sk.names("recipe")[0]

def main(means, folder):
    here = density_of_ten()
    if means == "cloudpickle":
        import cloudpickle, pickle
        there = pickle.loads(cloudpickle.dumps(density_of_ten))()
    elif means == "joblib":
        from joblib import Parallel, delayed
        (there,) = Parallel(n_jobs=2, backend="loky")([delayed(density_of_ten)()])
    elif means == "distributed":
        from sparsekit.experiments.sweeps import local_client
        with local_client(1) as client:
            there = client.submit(density_of_ten).result()
            kept = client.submit(os.environ.get, "MALLOC_TRIM_THRESHOLD_").result()
        assert kept == str(2**30), "Dask lets a worker keep 64 KiB of what it frees, so every step would ask for more"
    elif means == "submitit":
        import submitit
        there = submitit.LocalExecutor(folder).submit(density_of_ten).result()
    assert there == here, (there, here)
    print("arrived")

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("means", ["cloudpickle", "joblib", "distributed", "submitit"])
def test_a_function_of_a_script_that_uses_the_package_travels(means, tmp_path):
    pytest.importorskip(means, reason=f"install {means} to test that functions travel with it")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "script.py", means, str(tmp_path / "jobs")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "arrived\n"), result.stderr


def test_the_package_itself_travels_by_name():
    cloudpickle = pytest.importorskip("cloudpickle", reason="install cloudpickle, which comes with Dask")
    assert pickle.loads(cloudpickle.dumps(sk)) is sk
    function = pickle.loads(cloudpickle.dumps(lambda: sk.names("rule")))
    assert function() == sk.names("rule")


def test_experiments_and_histories_travel(tmp_path):
    experiment = sk.Experiment(density=0.1, epochs=1, batch_size=500, model_settings={"hidden": (12,)})
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    history = sk.run(experiment, tmp_path, progress=False)
    arrived = pickle.loads(pickle.dumps(history))
    assert (arrived.rows, arrived.folder) == (history.rows, history.folder)
    assert arrived.journal[-1] == history.journal[-1]

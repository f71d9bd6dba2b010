"""Fixtures shared by all tests."""

import os

# One thread per test process: the machines that run the gate have two cores, and trials run in processes of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import pytest


@pytest.fixture(scope="session")
def ray_session():
    """One local Ray for the whole test session: two CPUs and two logical GPUs."""
    import ray

    context = ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield context
    ray.shutdown()


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """Resident copies go to a temporary folder: tests neither read nor fill the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    previous = os.environ.get("FAIRSWEEP_CACHE")
    os.environ["FAIRSWEEP_CACHE"] = str(folder)
    yield folder
    if previous is None:
        del os.environ["FAIRSWEEP_CACHE"]
    else:
        os.environ["FAIRSWEEP_CACHE"] = previous

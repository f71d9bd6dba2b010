"""Fixtures shared by all tests."""

import os

# One thread per test process: the machines that run the gate have two cores, and trials run in processes of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import pytest


@pytest.fixture(scope="session")
def ray_session(cache_folder):
    """One local Ray for all tests of this process: two CPUs and two logical GPUs, as private as a sweep's own.

    Code under test that runs in this process finds it connected. A command in a process of its own joins it by
    `ray_address`.
    """
    import ray

    from fairsweep.sweeps.runtime.local_ray import private_ray

    with private_ray() as options:
        counts = {"num_cpus": 2, "num_gpus": 2, "object_store_memory": 2**29}
        yield ray.init(**options | counts, log_to_driver=False)
        ray.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_session):
    """Address (``host:port``) by which a command in a fresh process joins the Ray of this test run.

    Give it explicitly: ``env=os.environ | {"RAY_ADDRESS": ray_address}``, or ``--address`` where the command has it.
    Joining takes a tenth of the time of starting a Ray; `ray.shutdown` there ends the connection, not the Ray. The
    process needs the rest of this environment too: Ray's token is in it, and the switch that keeps Ray on loopback.
    Never set ``RAY_ADDRESS`` in ``os.environ`` itself, and never join by ``auto``: that finds anybody's Ray.
    """
    return ray_session.address_info["gcs_address"]


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

"""The files of deploy/: the one for `ray up` against Ray's own schema, the RayJob by its structure.

KubeRay's schema comes with its operator and is not here, so of the RayJob only what our file uses is checked: the
fields' names and types as its v1 API documents them, and what the pods need from each other.
"""

import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray
from ruamel.yaml import YAML
from typer.main import get_command

from fairsweep.sweeps.cli.app import app

DEPLOY = Path(__file__).parents[3] / "deploy"
QUANTITY = {"type": "string", "pattern": r"^\d+(Gi|Mi|m)?$"}
NAMED = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def closed(properties, required=()):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def listed(items):
    return {"type": "array", "items": items}


AMOUNTS = closed({"cpu": QUANTITY, "memory": QUANTITY}, ["cpu", "memory"])
CONTAINER = closed(
    {
        "name": {"type": "string"},
        "image": {"type": "string"},
        "env": listed(closed({"name": {"type": "string"}, "value": {"type": "string"}}, ["name", "value"])),
        "envFrom": listed(closed({"secretRef": NAMED})),
        "resources": closed({"requests": AMOUNTS, "limits": AMOUNTS}, ["requests", "limits"]),
        "volumeMounts": listed(closed({"name": {"type": "string"}, "mountPath": {"type": "string"}})),
    },
    ["name", "image", "resources"],
)
VOLUME = closed({"name": {"type": "string"}, "configMap": NAMED, "emptyDir": {"type": "object"}}, ["name"])
POD = closed({"spec": closed({"containers": listed(CONTAINER), "volumes": listed(VOLUME)}, ["containers"])}, ["spec"])
START = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
GROUP = closed(
    {
        "groupName": {"type": "string"},
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "rayStartParams": START,
        "template": POD,
    },
    ["groupName", "rayStartParams", "template"],
)
CLUSTER = closed(
    {
        "rayVersion": {"type": "string"},
        "headGroupSpec": closed({"rayStartParams": START, "template": POD}, ["rayStartParams", "template"]),
        "workerGroupSpecs": listed(GROUP),
    },
    ["headGroupSpec"],
)
JOB = closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": NAMED,
        "spec": closed(
            {
                "entrypoint": {"type": "string"},
                "entrypointNumCpus": {"type": "number"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": COUNT,
                "backoffLimit": COUNT,
                "rayClusterSpec": CLUSTER,
            },
            ["entrypoint", "rayClusterSpec"],
        ),
    },
    ["apiVersion", "kind", "metadata", "spec"],
)


def read(name):
    return YAML(typ="safe", pure=True).load((DEPLOY / name).read_text())


def test_ray_up_takes_the_cluster_file():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = read("ray-cluster.yaml")
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_worker": 1}, schema)
    assert f"ray[default]=={ray.__version__}" in cluster["setup_commands"][0]


def test_the_ray_job_has_the_structure_of_one():
    job = read("kuberay-rayjob.yaml")
    jsonschema.validate(job, JOB)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in [group["template"]["spec"] for group in groups]:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert {c["image"] for c in pod["containers"]} == {"IMAGE"}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_is_a_command_that_exists():
    _, name, *arguments = shlex.split(read("kuberay-rayjob.yaml")["spec"]["entrypoint"])
    command = get_command(app).commands[name]
    parsed = command.make_context(name, arguments, resilient_parsing=True).params
    assert str(parsed["file"]) == "/sweeps/sweep.yaml"
    assert parsed["address"] == "auto"

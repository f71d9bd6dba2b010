"""Passwords in addresses: refused before anything is written, with the place where they belong."""

import pytest
from ruamel.yaml import YAML

from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.address_passwords import holds_password
from fairsweep.sweeps.syntax.errors import SweepError

GUIDED = {"algorithm": "tpe", "samples": 2, "objectives": [{"max": "accuracy"}]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"search": GUIDED | {"storage": "postgresql+psycopg://me:hunter2@host/db"}},
            r"^search\.storage: .* PGPASSWORD",
        ),
        ({"search": GUIDED | {"storage": "mysql://host/db?password=hunter2"}}, "read_default_file"),
        (
            {"tracking": {"mlflow": {"uri": "https://me:hunter2@host"}}},
            r"^tracking\.mlflow\.uri: .* MLFLOW_TRACKING_PASS",
        ),
        ({"mirror": {"to": "s3://key:hunter2@bucket/x"}}, "AWS_SECRET_ACCESS_KEY"),
        ({"output": "abfss://bucket/x?client_secret=hunter2"}, "^output: "),
    ],
)
def test_an_address_with_a_password_is_refused(mapping, fields, message):
    mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": {"randint": [1, 3]}, "batch_size": 24}]
    with pytest.raises(SweepError, match=message) as error:
        Sweep.from_mapping(mapping | fields)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_output_of_the_command_line_is_checked_as_one_of_the_file(mapping, fairsweep, tmp_path):
    YAML().dump(mapping, tmp_path / "sweep.yaml")
    code, _, errors = fairsweep("plan", tmp_path / "sweep.yaml", "--output", "s3://key:hunter2@bucket/x")
    assert (code, errors.count("\n"), "hunter2" in errors) == (2, 1, False)
    assert "AWS_ACCESS_KEY_ID" in errors


@pytest.mark.parametrize("address", ["http://me:a/b@host", "mysql://me:12@host/db", "s3://b?secret_key=x"])
def test_passwords_of_every_form(address):
    assert holds_password(address)


@pytest.mark.parametrize(
    "address",
    ["postgresql://me@host:5432/db", "http://host:5000/a@b", "s3://bucket/a:b?region=eu", "sqlite:///a@b", "a:b@c"],
)
def test_other_addresses_stay(address):
    assert not holds_password(address)

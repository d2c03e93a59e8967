"""infra/compose.yaml, as far as it can be judged without an engine."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.config import ParseConfig
from tests.infra.conftest import INFRA, compose

COMPOSE = compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"deploy", "buckets"}  # end when they are done
USER_OF_THE_IMAGE = {"minio"}  # root, without any capability: its volume belongs to root
SCHEMA = Path(__file__).parent / "compose-spec.json"  # of github.com/compose-spec/compose-go, Apache-2.0, unchanged
SIZE = {"m": 1, "mb": 1, "g": 1024, "gb": 1024}

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def mebibytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text.lower()).groups()
    return int(number) * SIZE[unit]


def test_it_is_a_compose_file() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [(list(error.path), error.message) for error in validator.iter_errors(COMPOSE)] == []
    wrong = COMPOSE | {"services": {"worker": {"image": "x", "prots": []}}}
    assert not validator.is_valid(wrong)


@each_service
def test_an_image_has_a_version(service: dict[str, Any]) -> None:
    version = service["image"].rpartition(":")[2].replace("${SNAPDEX_VERSION:-0.1.0}", "0.1.0").rstrip("}")
    assert re.search(r"\d+\.\d+|RELEASE\.\d{4}", version), service["image"]
    assert "latest" not in version


@each_service
def test_it_may_do_no_more_than_it_must(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert any(each.startswith("/tmp:") for each in service["tmpfs"])
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("name", SERVICES)
def test_it_runs_as_somebody(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service and name not in USER_OF_THE_IMAGE:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_watched_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["healthcheck"] == {"disable": True} and service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])
    for other, how in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how["condition"] == wanted


@each_service
def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_healthcheck_asks_the_port_that_the_command_opens() -> None:
    for name, port in {"prefect": "4200", "mlflow": "5000", "serve": "8321"}.items():
        assert port in SERVICES[name]["command"]
        assert f"127.0.0.1:{port}/" in SERVICES[name]["healthcheck"]["test"][-1]
        assert SERVICES[name]["ports"][0].endswith(f":{port}")


def test_secrets_are_files_that_the_script_makes(tmp_path: Path) -> None:
    """Each is made once, none is empty, none ends a line; and no service names one that is not declared."""
    made = subprocess.run(["sh", INFRA / "secrets.sh", tmp_path / "s"], capture_output=True, text=True, check=True)
    contents = {path.name: path.read_text("utf-8") for path in (tmp_path / "s").iterdir()}
    assert len(made.stdout.splitlines()) == len(contents)
    assert all(text and text == text.strip() for text in contents.values())
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    again = subprocess.run(["sh", INFRA / "secrets.sh", tmp_path / "s"], capture_output=True, text=True, check=True)
    assert again.stdout == ""
    assert {path.name: path.read_text("utf-8") for path in (tmp_path / "s").iterdir()} == contents
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"./secrets/{name}" for name in contents
    }
    assert "secrets/" in (INFRA / ".gitignore").read_text("utf-8").splitlines()


@each_service
def test_what_is_secret_comes_from_its_file(service: dict[str, Any]) -> None:
    environment = service.get("environment", {})
    for name, value in environment.items():
        if str(value).startswith("/run/secrets/"):
            assert name.endswith("_FILE") and value.removeprefix("/run/secrets/") in service["secrets"]
        else:
            assert not re.search("PASSWORD|AUTH|SECRET|TOKEN|ACCESS_KEY", name)
            assert not re.search(r"//[^/@]*:[^/@]*@", str(value)), f"{name} has a password in a URL"


def test_every_variable_is_explained() -> None:
    text = (INFRA / "compose.yaml").read_text("utf-8").replace("$$", "")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used and not re.findall(r"\$\w", text)
    lines = (INFRA / ".env.example").read_text("utf-8").splitlines()
    said = [re.fullmatch(r"(# )?([A-Z_0-9]+)=(.*)", line) for line in lines]
    explained = {found[2]: (found[1] is not None, found[3]) for found in said if found}
    assert set(explained) == used
    for name, default in re.findall(r"\$\{(\w+):-([^}]+)\}", text):
        is_default, value = explained[name]
        assert not is_default or value in (default, "s3://mlflow"), name


def test_what_is_mounted_is_there() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    named = {volume.split(":")[0] for volume in volumes if isinstance(volume, str) and not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    for volume in volumes:
        if isinstance(volume, str) and volume.startswith("."):
            source, _, mode = volume.split(":")
            assert (INFRA / source).is_file() and mode == "ro"


def test_shared_memory_holds_a_parallel_build() -> None:
    settings = (INFRA / "postgres" / "postgresql.conf").read_text("utf-8")
    memory = re.search(r"^maintenance_work_mem = (\w+)", settings, re.MULTILINE)
    assert memory and mebibytes(SERVICES["postgres"]["shm_size"]) >= mebibytes(memory[1])


def test_the_worker_may_parse_a_document() -> None:
    limit = re.search(r":-(\w+)}", SERVICES["worker"]["mem_limit"])
    assert limit and mebibytes(limit[1]) >= 2 * ParseConfig().memory_mib


def test_deploy_and_worker_see_the_same() -> None:
    for key in ("image", "environment", "secrets", "volumes"):
        assert SERVICES["deploy"][key] == SERVICES["worker"][key]
    assert yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))["name"] == "snapdex"

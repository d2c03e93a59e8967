"""infra/kubernetes, as far as it can be judged without a cluster."""

import re
from typing import Any

import pytest
import yaml

from tests.infra.conftest import INFRA, compose

DIRECTORY = INFRA / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text("utf-8"))
OBJECTS: list[dict[str, Any]] = [
    each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((DIRECTORY / name).read_text("utf-8"))
]
DEPLOYMENTS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "Deployment"}
CONTAINERS = {
    f"{name}/{container['name']}": (deployment["spec"]["template"]["spec"], container)
    for name, deployment in DEPLOYMENTS.items()
    for kind in ("initContainers", "containers")
    for container in deployment["spec"]["template"]["spec"].get(kind, [])
}
SETTINGS = {
    each["name"]: dict(literal.split("=", 1) for literal in each["literals"])
    for each in KUSTOMIZATION["configMapGenerator"]
}

each_container = pytest.mark.parametrize("name", CONTAINERS)


def test_every_file_is_part_of_it() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}
    assert set(DEPLOYMENTS) == set(SETTINGS) == {"prefect", "mlflow", "worker", "serve"}


@each_container
def test_it_meets_the_restricted_standard(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, which the namespace enforces."""
    pod, container = CONTAINERS[name]
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] >= 10000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}}
    assert kinds <= {"emptyDir", "persistentVolumeClaim"}
    (enforced,) = (each for each in OBJECTS if each["kind"] == "Namespace")
    assert enforced["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@each_container
def test_it_has_resources_and_mounts_what_there_is(name: str) -> None:
    pod, container = CONTAINERS[name]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"]) and "memory" in container["resources"]["limits"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    claims = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}
    assert {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v} <= claims
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(KUSTOMIZATION["images"][0]["newTag"]))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_probes_ask_a_port_that_is_there(name: str) -> None:
    (container,) = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] in ports
        check = compose()["services"][name]["healthcheck"]["test"][-1]
        same = asked["path"] if (name, probe) != ("serve", "readinessProbe") else "/live"  # it also wants a version
        assert f":{ports[asked['port']]}{same}'" in check


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_it_does_what_compose_does(name: str) -> None:
    (container,) = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    service = compose()["services"][name]
    assert container["args"] == service["command"]
    ours = set(SETTINGS[name]) | {each["name"] for each in container["env"]}
    theirs = {key.removesuffix("_FILE") for key in service["environment"]}
    only_there = {"PREFECT_UI_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID",
                  "AWS_SECRET_ACCESS_KEY"}  # fmt: skip
    assert theirs - ours <= only_there and ours <= theirs


def test_secrets_are_named_and_never_here() -> None:
    made = set(compose()["secrets"])
    for _, container in CONTAINERS.values():
        for variable in container.get("env", []):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "snapdex" and reference["key"] in made
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in SETTINGS
    assert not any(each["kind"] == "Secret" for each in OBJECTS) and "secretGenerator" not in KUSTOMIZATION
    for values in SETTINGS.values():
        assert not any(re.search(r"//[^/@]*:[^/@]*@", value) for value in values.values())


def test_nobody_is_reached_who_is_not_meant_to_be() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy"}
    assert policies.pop("nothing") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies.values():
        for rule in policy.get("ingress", []) + policy.get("egress", []):
            assert rule["ports"], "a rule without ports would open all of them"
    services = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "Service"}
    for name, service in services.items():
        assert service["selector"] == DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"]
        assert "type" not in service, "inside the cluster only"

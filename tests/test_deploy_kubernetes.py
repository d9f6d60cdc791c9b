"""Checks of the Kubernetes resources that need no cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.utilities.templating import apply_values

from tests.deployment_files import DEPLOY, ROOT, env_file, unknown_settings

KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATIONS = ("base", "overlays/gpu", "overlays/jobs", "components/https-egress")
COMPONENT = "app.kubernetes.io/component"
NAMESPACE = "kubernetes.io/metadata.name"

Resource = dict[str, Any]


def kustomization(folder: str) -> Resource:
    return yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())


def resources_in(folder: str) -> list[Resource]:
    """Return the resources that a kustomization itself names; a folder among them is another kustomization."""
    files = [KUBERNETES / folder / name for name in kustomization(folder)["resources"] if name.endswith(".yaml")]
    return [resource for file in files for resource in yaml.safe_load_all(file.read_text())]


def job_of_a_flow_run() -> Resource:
    """Return the Job that Prefect's Kubernetes worker makes of the work pool's template."""
    template = json.loads((KUBERNETES / "overlays/jobs/job-template.json").read_text())
    defaults = {name: one["default"] for name, one in template["variables"]["properties"].items() if "default" in one}
    job = apply_values(template["job_configuration"]["job_manifest"], defaults | JOB_VARIABLES)
    pod = job["spec"]["template"]["spec"]
    # Prefect asks for these two, and Kubernetes ignores them in a pod.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    pod["containers"][0] |= {"name": "job", "args": ["prefect", "flow-run", "execute"]}
    return job


JOB_SETTINGS = yaml.safe_load((KUBERNETES / "overlays/jobs/settings.yaml").read_text())["data"]
JOB_VARIABLES = json.loads(JOB_SETTINGS["DELTADEX_JOB_VARIABLES"])
RESOURCES = [resource for folder in KUSTOMIZATIONS for resource in resources_in(folder)]
CONFIG_MAPS = {one["metadata"]["name"]: one["data"] for one in RESOURCES if one["kind"] == "ConfigMap"}
WORKLOADS = [one for one in RESOURCES if one["kind"] in ("Deployment", "StatefulSet", "Job")]
TEMPLATES = {one["metadata"]["name"]: one["spec"]["template"] for one in WORKLOADS} | {
    "deltadex-job": job_of_a_flow_run()["spec"]["template"]
}
PODS = {name: template["spec"] for name, template in TEMPLATES.items()}
LABELS = {name: template["metadata"]["labels"] for name, template in TEMPLATES.items()}
POLICIES = [one["spec"] for one in RESOURCES if one["kind"] == "NetworkPolicy"]


def containers(pod: Resource) -> list[Resource]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def secrets(pod: Resource) -> set[str]:
    variables = [one for container in containers(pod) for one in container["env"]]
    return {one["valueFrom"]["secretKeyRef"]["key"] for one in variables if "secretKeyRef" in one.get("valueFrom", {})}


def selects(selector: Resource, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


@pytest.mark.parametrize("resource", [*RESOURCES, job_of_a_flow_run()], ids=lambda one: one["kind"])
def test_each_resource_is_valid(resource: Resource) -> None:
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders kustomizations")
@pytest.mark.parametrize("folder", KUSTOMIZATIONS[:3])
def test_each_kustomization_renders_to_valid_resources(folder: str, tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (tmp_path / "kubernetes" / "own").mkdir()
    (tmp_path / "kubernetes" / "own" / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": [f"../{folder}"], "components": ["../components/https-egress"]})
    )
    command = ["kubectl", "kustomize", str(tmp_path / "kubernetes" / "own")]
    rendered = list(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True).stdout))
    for resource in rendered:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    names = {one["metadata"]["name"] for one in rendered}
    assert "deltadex-https-egress" in names
    assert ("deltadex-worker" in names) == (folder != "overlays/jobs")
    images = {image for one in rendered for image in re.findall(r"'image': '(\S+)'", str(one))}
    assert [image for image in images if ":" not in image] == []


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_a_kustomization_names_what_exists(folder: str) -> None:
    here = KUBERNETES / folder
    config = kustomization(folder)
    generated = [file for one in config.get("configMapGenerator", ()) for file in one["files"]]
    patches = config.get("patches", [])
    named = [*config["resources"], *generated, *(patch["path"] for patch in patches if "path" in patch)]
    assert [name for name in named if not (here / name).exists()] == []
    known = {(one["kind"], one["metadata"]["name"]) for one in RESOURCES}
    for patch in patches:
        target = yaml.safe_load(patch.get("patch") or (here / patch["path"]).read_text())
        assert (target["kind"], target["metadata"]["name"]) in known
    used = {container["image"] for pod in PODS.values() for container in containers(pod)}
    assert {one["name"] for one in config.get("images", ())} <= used


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_few_rights(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is (name == "deltadex-job-worker")
    # Otherwise Kubernetes sets DELTADEX_WATCHER_PORT and its like, which are refused as unknown settings.
    assert pod["enableServiceLinks"] is False
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", PODS)
def test_a_container_has_limits_and_mounts_volumes_of_its_pod(name: str) -> None:
    generated = [one["name"] for one in kustomization("overlays/jobs")["configMapGenerator"]]
    volumes = {volume["name"]: volume for volume in PODS[name]["volumes"]}
    claims = {"data"} if name == "deltadex-postgres" else set()
    for container in containers(PODS[name]):
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound])
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) <= set(volumes) | claims
        assert "/tmp" in mounts.values()
    sources = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
    assert sources <= {*CONFIG_MAPS, *generated}


@pytest.mark.parametrize("name", sorted(PODS.keys() - {"deltadex-init", "deltadex-job"}))
def test_a_service_has_probes_of_its_own_ports(name: str) -> None:
    for container in PODS[name]["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for kind in ("readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert "exec" in probe or probe["httpGet"]["port"] in ports


def test_selectors_match_the_labels_of_one_workload() -> None:
    for workload in WORKLOADS:
        if workload["kind"] != "Job":
            selector = workload["spec"]["selector"]
            assert [name for name in PODS if selects(selector, LABELS[name])] == [workload["metadata"]["name"]]


def test_a_service_leads_to_a_port_of_the_workload_of_its_name() -> None:
    services = [one for one in RESOURCES if one["kind"] == "Service"]
    assert len(services) == 4
    for service in services:
        selector = {"matchLabels": service["spec"]["selector"]}
        assert [name for name in PODS if selects(selector, LABELS[name])] == [service["metadata"]["name"]]
        ports = PODS[service["metadata"]["name"]]["containers"][0]["ports"]
        for port in service["spec"]["ports"]:
            assert {"name": port["targetPort"], "containerPort": port["port"]} in ports


def variables() -> Iterator[str]:
    for data in (*CONFIG_MAPS.values(), JOB_SETTINGS, JOB_VARIABLES["env"]):
        yield from data
    for pod in PODS.values():
        yield from (one["name"] for container in containers(pod) for one in container["env"])


def test_only_settings_that_exist_are_set() -> None:
    assert "DELTADEX_TRACKING_URI" in set(variables())
    assert unknown_settings(variables()) == set()


def test_each_pod_has_only_its_own_secrets() -> None:
    prefect, writer = "PREFECT_API_AUTH_STRING", "WRITER_PASSWORD"
    worker = {writer, prefect, "DELTADEX_ARTIFACT_KEY"}
    assert {name: secrets(pod) for name, pod in PODS.items()} == {
        "deltadex-postgres": {"POSTGRES_PASSWORD", "PREFECT_PASSWORD"},
        "deltadex-prefect": {"PREFECT_PASSWORD", prefect},
        "deltadex-init": {"POSTGRES_PASSWORD", writer, "DASHBOARD_PASSWORD", prefect, "DELTADEX_WEBHOOK__SECRET"},
        "deltadex-watcher": {writer, prefect, "DELTADEX_WEBHOOK__SECRET"},
        "deltadex-worker": worker,
        "deltadex-worker-gpu": worker,
        "deltadex-job": worker,
        "deltadex-job-worker": {prefect},
        "deltadex-dashboard": {"DASHBOARD_PASSWORD"},
    }
    example = env_file(KUBERNETES / "secrets.env.example")
    assert set(example) == set().union(*map(secrets, PODS.values()))
    assert all(value.endswith("REPLACE_ME") for value in example.values())


def test_each_pod_has_its_own_login_and_credentials_of_mlflow_only_if_it_talks_to_it() -> None:
    logins, clients = {}, set()
    for name, pod in PODS.items():
        for container in containers(pod):
            given = {one["name"]: one.get("value", "") for one in container["env"]}
            if "DELTADEX_DATABASE__URL" in given:
                logins[name] = re.match(r"postgresql://(\w+):", given["DELTADEX_DATABASE__URL"])[1]
            if {"secretRef": {"name": "deltadex-mlflow", "optional": True}} in container.get("envFrom", []):
                clients.add(name)
    workers = {"deltadex-worker", "deltadex-worker-gpu", "deltadex-job"}
    assert logins == {
        "deltadex-init": "deltadex",
        "deltadex-watcher": "deltadex_writer",
        "deltadex-dashboard": "deltadex_dashboard",
        **dict.fromkeys(workers, "deltadex_writer"),
    }
    assert clients == {"deltadex-init", "deltadex-watcher", *workers}


def test_references_to_variables_and_config_maps_resolve() -> None:
    for pod in PODS.values():
        for container in containers(pod):
            before: set[str] = set()
            for one in container["env"]:
                assert set(re.findall(r"\$\((\w+)\)", one.get("value", ""))) <= before
                before.add(one["name"])
            maps = {one["configMapRef"]["name"] for one in container.get("envFrom", ()) if "configMapRef" in one}
            assert maps <= set(CONFIG_MAPS)


def allows(rules: list[Resource], peer: str, port: int, to_or_from: str) -> bool:
    """Return True if rules of one direction let a pod, or any pod of a namespace, through."""
    for rule in rules:
        peers = rule.get(to_or_from, [])
        labels = LABELS.get(peer, {})
        is_peer = any(
            selects(one["podSelector"], labels) if "podSelector" in one and labels
            else one.get("namespaceSelector") == {"matchLabels": {NAMESPACE: peer}}
            for one in peers
        )  # fmt: skip
        if is_peer and port in [one["port"] for one in rule["ports"]]:
            return True
    return False


def may_reach(source: str, target: str, port: int) -> bool:
    """Return True if the policies of both ends let them connect; a namespace has none here."""
    out = [one for one in POLICIES if source in PODS and selects(one["podSelector"], LABELS[source])]
    into = [one for one in POLICIES if target in PODS and selects(one["podSelector"], LABELS[target])]
    return (not out or any(allows(one.get("egress", []), target, port, "to") for one in out)) and (
        not into or any(allows(one.get("ingress", []), source, port, "from") for one in into)
    )


def test_all_traffic_is_denied_by_default() -> None:
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in POLICIES


@pytest.mark.parametrize(
    ("target", "port", "sources"),
    [
        ("deltadex-postgres", 5432, {"init", "watcher", "worker", "worker-gpu", "job", "dashboard", "prefect"}),
        ("deltadex-prefect", 4200, {"init", "watcher", "worker", "worker-gpu", "job", "job-worker"}),
        ("mlflow", 5000, {"init", "watcher", "worker", "worker-gpu", "job"}),
        ("kube-system", 53, {name.removeprefix("deltadex-") for name in PODS}),
        ("deltadex-watcher", 8571, {"mlflow"}),
        ("deltadex-watcher", 8572, {"monitoring"}),
        ("deltadex-dashboard", 8501, set()),
        ("deltadex-worker", 8080, set()),
    ],
)
def test_who_reaches_a_port(target: str, port: int, sources: set[str]) -> None:
    others = [*PODS, "mlflow", "monitoring"] if target in PODS else PODS
    found = {one for one in others if one != target and may_reach(one, target, port)}
    assert {one.removeprefix("deltadex-") for one in found} == sources


def test_policies_name_labels_and_ports_that_pods_have() -> None:
    components = {labels[COMPONENT] for labels in LABELS.values()}
    named = set(re.findall(rf"'{COMPONENT}': '([\w-]+)'", str(POLICIES)))
    for values in re.findall(rf"'{COMPONENT}', 'operator': 'In', 'values': (\[.+?\])", str(POLICIES)):
        named |= set(yaml.safe_load(values))
    assert named == components
    for policy in POLICIES:
        selected = [name for name in PODS if selects(policy["podSelector"], LABELS[name])]
        ports = {one["containerPort"] for name in selected for one in PODS[name]["containers"][0].get("ports", ())}
        for rule in policy.get("ingress", ()):
            assert {one["port"] for one in rule["ports"]} <= ports


def test_a_worker_with_a_gpu_differs_in_its_device_and_the_size_of_its_cache() -> None:
    cpu, gpu = (
        {one["name"]: one for one in PODS[name]["containers"][0]["env"]}
        for name in ("deltadex-worker", "deltadex-worker-gpu")
    )
    assert {name for name in cpu | gpu if cpu.get(name) != gpu.get(name)} == {
        "DELTADEX_EMBEDDING__DEVICE",
        "DELTADEX_CACHE__MAX_BYTES",
    }
    assert PODS["deltadex-worker-gpu"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_jobs_fit_their_template_image_and_namespace() -> None:
    template = json.loads((KUBERNETES / "overlays/jobs/job-template.json").read_text())
    jsonschema.validate(JOB_VARIABLES, template["variables"])
    namespace = kustomization("overlays/jobs")["namespace"]
    binding = next(one for one in RESOURCES if one["kind"] == "RoleBinding")
    assert JOB_VARIABLES["namespace"] == binding["subjects"][0]["namespace"] == namespace
    image = next(one for one in kustomization("base")["images"] if one["name"] == "deltadex-worker")
    assert JOB_VARIABLES["image"] == f"{image['newName']}:{image['newTag']}"


def test_the_job_worker_has_the_pool_of_the_settings_and_the_prefect_of_the_lock() -> None:
    pool, worker = containers(PODS["deltadex-job-worker"])
    assert JOB_SETTINGS["DELTADEX_WORK_POOL"] == pool["command"][3]
    for container in (pool, worker):
        arguments = container["command"]
        assert arguments[arguments.index("--type") + 1] == JOB_SETTINGS["DELTADEX_WORK_POOL_TYPE"]
        assert JOB_SETTINGS["DELTADEX_WORK_POOL"] in arguments
    locked = re.search(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert {container["image"].split(":")[1].split("-")[0] for container in (pool, worker)} == {locked}


def test_the_job_worker_may_touch_jobs_and_read_pods_and_nothing_else() -> None:
    role = next(one for one in RESOURCES if one["kind"] == "Role")
    resources = {name: set(rule["verbs"]) for rule in role["rules"] for name in rule["resources"]}
    assert set(resources) == {"jobs", "pods", "pods/log", "pods/status"}
    assert all(verbs == {"get", "list", "watch"} for name, verbs in resources.items() if name != "jobs")

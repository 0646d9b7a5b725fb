#!/usr/bin/env python3
"""Checks deploy/kubernetes offline: check_manifests.py TRIMTAB GOLDEN

In a virtual environment with deploy-requirements.txt. Every kustomization is rendered by kubectl and held to the
schemas of Kubernetes and of what extends it, strictly, and to rules that a schema does not know: what names what, the
"restricted" standard of pods, drain and grace. Then what the containers are told is run here, with the tests' model:
the server answers at the paths of its probes, and the Job's indices and merge give the files of one process. That all
of this finds something is tried by changes, each of which must be found. No cluster has run any of it."""

import copy
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import pydantic
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cli"))
# pylint: disable=wrong-import-position
import program
from program import check, read, tiny, trimtab
from serve_client import Server
from shared_job import SharedJob, shared_rows

KUBECTL = pathlib.Path(sys.executable).parent / "kubectl"
FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ["1.30", "1.37"]  # the oldest that has all that is asked for, and the newest that was tried
POOL = json.loads(read(ROOT / "tests/data/inference_pool.schema.json"))
MODELS = {"keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
          "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1"}


def render(folder):
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"{folder}: {done.stderr}")
    return list(yaml.safe_load_all(done.stdout))


# ---- Schemas: each finding is a line


def of_model(doc):
    """A resource that pydantic has a model of: what the model does not give back is a name that it does not know."""
    try:
        model = getattr(importlib.import_module(MODELS[doc["apiVersion"]]), doc["kind"]).model_validate(doc)
    except pydantic.ValidationError as error:
        return [str(error)]
    back = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return [] if back == doc else [f"unknown names: {doc} but {back}"]


def of_schema(doc):
    try:
        if doc["apiVersion"] in MODELS:
            return of_model(doc)
        if doc["kind"] == "InferencePool":
            jsonschema.validate(doc, POOL)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(doc, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return [str(error)[:300]]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"no schema: {error}"]
    return []


# ---- Rules


def restricted(pod):
    """The standard of that name, and what it leaves open: no rights, no token, nothing to write to but volumes."""
    of_pod = pod.get("securityContext", {})
    found = []
    if not (of_pod.get("runAsNonRoot") and of_pod.get("runAsUser") == of_pod.get("runAsGroup") == 65532):
        found.append("the user is not the image's")
    if of_pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("no seccomp profile")
    if pod.get("automountServiceAccountToken") is not False or pod.get("hostNetwork") or pod.get("hostIPC"):
        found.append("a token, or a name space of the host's")
    if any(not set(volume) & {"persistentVolumeClaim", "emptyDir", "configMap"} for volume in pod["volumes"]):
        found.append("a volume of the host's")
    for container in pod["containers"]:
        of_container = container.get("securityContext", {})
        if of_container != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}}:
            found.append(f"{container['name']} has rights: {of_container}")
        if not re.fullmatch(r".+:(?!latest$).+", container["image"]):
            found.append(f"{container['name']} has no version: {container['image']}")
    return found


def pods_of(docs):
    return {doc["metadata"]["name"]: doc["spec"]["template"] for doc in docs if doc["kind"] in ("Deployment", "Job")}


def named(docs):
    """What is named in a pod is there."""
    configs = {doc["metadata"]["name"] for doc in docs if doc["kind"] == "ConfigMap"}
    found = []
    for name, template in pods_of(docs).items():
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            if {mount["name"] for mount in container["volumeMounts"]} != volumes:
                found.append(f"{name}: volumes and mounts differ")
            if any(source["configMapRef"]["name"] not in configs for source in container["envFrom"]):
                found.append(f"{name}: a map that is not there")
            probes = [probe for key, probe in container.items() if key.endswith("Probe")]
            if any(probe["httpGet"]["port"] not in ports for probe in probes):
                found.append(f"{name}: a probe of a port that is not there")
            gpus = container["resources"]["limits"].get("nvidia.com/gpu")
            ranks = [arg.rsplit("=", 1)[1] for arg in container.get("args", []) if "tensor-parallel" in arg]
            if gpus not in (None, (ranks or ["1"])[0]):
                found.append(f"{name}: {gpus} GPUs for {ranks} ranks")
    return found


def selectors(docs):
    """Whoever selects pods selects those of the Deployment, by labels that they have."""
    found = []
    labels = [doc["spec"]["template"]["metadata"]["labels"] for doc in docs if doc["kind"] == "Deployment"]
    for doc in docs:
        selector = doc.get("spec", {}).get("selector")
        if selector is None:
            continue
        wanted = selector.get("matchLabels") if doc["kind"] != "Service" else selector
        if not wanted or not any(wanted.items() <= has.items() for has in labels):
            found.append(f"{doc['kind']}: selects {wanted}")
    ports = [port for doc in docs if doc["kind"] == "Deployment"
             for port in doc["spec"]["template"]["spec"]["containers"][0]["ports"]]
    for doc in docs:
        wanted = [port["targetPort"] for port in doc["spec"]["ports"]] if doc["kind"] == "Service" else \
            [port["port"] for port in doc["spec"]["podMetricsEndpoints"]] if doc["kind"] == "PodMonitor" else []
        if not set(wanted) <= {port["name"] for port in ports}:
            found.append(f"{doc['kind']}: ports {wanted}")
        if doc["kind"] == "InferencePool" and [port["number"] for port in doc["spec"]["targetPorts"]] != \
                [port["containerPort"] for port in ports]:
            found.append("InferencePool: another port")
    return found


def serving(docs):
    """Probes, drain and grace."""
    found = []
    values = {k: v for doc in docs if doc["kind"] == "ConfigMap" for k, v in doc["data"].items()}
    for doc in docs:
        if doc["kind"] == "ScaledObject" and any("replicas" in d["spec"] for d in docs if d["kind"] == "Deployment"):
            found.append("two say how many replicas there are")
        if doc["kind"] != "Deployment":
            continue
        pod = doc["spec"]["template"]["spec"]
        container = pod["containers"][0]
        paths = [container.get(f"{name}Probe", {}).get("httpGet", {}).get("path")
                 for name in ("startup", "readiness", "liveness")]
        if paths != ["/ready", "/ready", "/live"]:
            found.append(f"probes: {paths}")
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace, drain = pod["terminationGracePeriodSeconds"], int(values["DRAIN"])
        if grace != drain + 30 or not 0 < before <= 20:
            found.append(f"grace {grace}, drain {drain}, {before} s before")
    return found


def sharing(docs):
    """The Job of a batch."""
    found = []
    values = {k: v for doc in docs if doc["kind"] == "ConfigMap" for k, v in doc["data"].items()}
    for doc in docs:
        if doc["kind"] != "Job":
            continue
        spec, args = doc["spec"], doc["spec"]["template"]["spec"]["containers"][0]["args"]
        n = values["SHARDS"] if "--shard=env/$(SHARDS)" in args else "1"
        if str(spec["completions"]) != n:
            found.append(f"{spec['completions']} indices for {n} shards")
        if (spec["completionMode"], spec.get("podReplacementPolicy"), spec.get("backoffLimitPerIndex")) != \
                ("Indexed", "Failed", 3) or spec["template"]["spec"]["restartPolicy"] != "Never":
            found.append("two pods may hold one index, or none is tried again")
    return found


def findings(docs):
    found = [f"{doc['kind']}: {line}" for doc in docs for line in of_schema(doc)]
    if not found:
        found = [line for name, template in pods_of(docs).items() for line in restricted(template["spec"])]
        found += named(docs) + selectors(docs) + serving(docs) + sharing(docs)
    return found


# ---- Changes that must be found: the folder, the kind, where, and what stands there instead; None: nothing

CONTAINER = "spec/template/spec/containers/0/"
CHANGES = [
    ("base", "Deployment", "spec/replicas", "2"),
    ("base", "Deployment", "spec/replica", 2),
    ("base", "Deployment", "spec/template/spec/securityContext/runAsUser", 0),
    ("base", "Deployment", "spec/template/spec/securityContext/seccompProfile", None),
    ("base", "Deployment", "spec/template/spec/automountServiceAccountToken", None),
    ("base", "Deployment", "spec/template/spec/volumes/0", {"name": "models", "hostPath": {"path": "/models"}}),
    ("base", "Deployment", "spec/template/spec/terminationGracePeriodSeconds", 30),
    ("base", "Deployment", "spec/template/metadata/labels", {"app": "other"}),
    ("base", "Deployment", CONTAINER + "image", "trimtab:latest"),
    ("base", "Deployment", CONTAINER + "securityContext/readOnlyRootFilesystem", False),
    ("base", "Deployment", CONTAINER + "volumeMounts/0/name", "model"),
    ("base", "Deployment", CONTAINER + "readinessProbe/httpGet/port", "https"),
    ("base", "Deployment", CONTAINER + "readinessProbe/httpGet/path", "/health"),
    ("base", "Deployment", CONTAINER + "lifecycle", None),
    ("base", "Deployment", CONTAINER + "envFrom/0/configMapRef/name", "trimtab"),
    ("base", "Service", "spec/ports/0/targetPort", "https"),
    ("base", "Service", "spec/selector", {"app": "trimtab"}),
    ("base", "PodDisruptionBudget", "spec/selector", {}),
    ("base", "PodMonitor", "spec/podMetricsEndpoints/0/port", "admin"),
    ("base", "PodMonitor", "spec/podMetricsEndpoint", []),
    ("base", "PodMonitor", "spec/selector", None),
    ("base", "PrometheusRule", "spec/groups/0/rules/0/for", 3600),
    ("base", "PrometheusRule", "spec/groups/0/rules/0/expression", "1"),
    ("overlays/tp8", "Deployment", CONTAINER + "resources/limits/nvidia.com~1gpu", "4"),
    ("overlays/llm-d", "InferencePool", "spec/targetPorts/0/number", "8000"),
    ("overlays/llm-d", "InferencePool", "spec/targetPorts/0/number", 8001),
    ("overlays/llm-d", "InferencePool", "spec/extensionRef", {"name": "trimtab-epp"}),
    ("overlays/keda", "ScaledObject", "spec/maxReplicaCount", "eight"),
    ("overlays/keda", "ScaledObject", "spec/scaleTarget", {"name": "trimtab"}),
    ("overlays/keda", "Deployment", "spec/replicas", 2),
    ("batch", "Job", "spec/completions", 9),
    ("batch", "Job", "spec/podReplacementPolicy", "TerminatingOrFailed"),
    ("batch", "Job", "spec/backoffLimitPerIndex", None),
    ("batch", "Job", "spec/backOffLimitPerIndex", 3),
    ("batch", "Job", "spec/template/spec/restartPolicy", "OnFailure"),
]


def changed(docs, kind, where, value):
    docs = copy.deepcopy(docs)
    at = next(doc for doc in docs if doc["kind"] == kind)
    *way, last = [int(key) if key.isdigit() else key.replace("~1", "/") for key in where.split("/")]
    for key in way:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return docs


# ---- What containers are told, run here


def told(docs, kind, **changes):
    """A container's command with its values in place, as Kubernetes puts them there."""
    values = {k: v for doc in docs if doc["kind"] == "ConfigMap" for k, v in doc["data"].items()} | changes
    container = next(doc for doc in docs if doc["kind"] == kind)["spec"]["template"]["spec"]["containers"][0]
    words = container.get("command", []) + container["args"]
    words = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in words]
    check(not any("$(" in word for word in words), f"a value is missing: {words}")
    return container, words


def serve(docs):
    """Behind the image's entry point; on loopback, with a port of this machine's."""
    container, words = told(docs, "Deployment", MODEL=tiny)
    check(words[:2] == ["serve", tiny], f"{words}")
    with Server(*[word for word in words[2:] if not word.startswith(("--host", "--port"))]) as server:
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            # The kubelet names the pod's address as Host.
            status, _ = server.ask(container[name]["httpGet"]["path"], Host="10.0.0.7:8000")
            check(status == 200, f"{name}: {status}")
        monitor = next(doc for doc in docs if doc["kind"] == "PodMonitor")
        path = monitor["spec"]["podMetricsEndpoints"][0]["path"]
        status, text = server.ask(path, Host="10.0.0.7:8000")
        check(status == 200 and b"vllm:num_requests_waiting{" in text, f"{path}: {status}")
        queries = [trigger["metadata"]["query"] for doc in render(FOLDER / "overlays/keda")
                   if doc["kind"] == "ScaledObject" for trigger in doc["spec"]["triggers"]]
        queries += [rule["expr"] for doc in docs if doc["kind"] == "PrometheusRule"
                    for group in doc["spec"]["groups"] for rule in group["rules"]]
        for query in queries:
            name = re.search(r"vllm:\w+|trimtab_\w+", query)[0].encode()
            check(re.search(rb"\n%b[{ ]" % name, text), f"no such metric: {query}")


def batch(docs, merge):
    """All indices, one after the other, and the merge, of rows of which some are errors, which is status 4."""
    job = SharedJob(shared_rows(600), "-n", "2")
    # What a job says beside its input and output is the user's own, and the same for all.
    options = ["--telemetry", "tokens", *job.arguments]
    environment = os.environ | {"PATH": f"{os.path.dirname(trimtab)}:{os.environ['PATH']}"}

    def run(docs, index):
        _, words = told(docs, "Job", MODEL=tiny, INPUT="in.jsonl", OUTPUT="out")
        done = subprocess.run(words + options, env=environment | {"JOB_COMPLETION_INDEX": str(index)}, check=False,
                              capture_output=True, stdin=subprocess.DEVNULL, text=True)
        return done.returncode, done.stderr[-300:]

    check(run(merge, 0)[0] == 1, "a merge before there are parts")
    for index in range(next(doc["spec"]["completions"] for doc in docs if doc["kind"] == "Job")):
        status, said = run(docs, index)
        check(status == 0, f"index {index}: {status} {said}")
    status, said = run(merge, 0)
    check(status == 0, f"the merge: {status} {said}")
    job.same("the Job's indices")
    check(run(docs, 99)[0] == 2, "an index beyond the shards is no wrong usage")


def main():
    folders = sorted(path.parent.relative_to(FOLDER) for path in FOLDER.glob("**/kustomization.yaml"))
    docs = {str(folder): render(FOLDER / folder) for folder in folders}
    for name, rendered in docs.items():
        found = findings(rendered)
        check(not found, f"{name}: {found}")
        print(f"{name}: {', '.join(doc['kind'] for doc in rendered)}: {len(found)} findings", flush=True)
    for name, *change in CHANGES:
        check(findings(changed(docs[name], *change)), f"{name}: {change} is not found")
    print(f"{len(CHANGES)} changes: each is found", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        serve(docs["overlays/cpu"])
        batch(docs["batch"], docs["batch-merge"])
        os.chdir("/")
    print("the server's and the batch's commands run here", flush=True)
    program.end()


main()

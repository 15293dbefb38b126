"""The files for clusters that are not here: what can be known of them without one."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from trainer.run_config import RunConfig

CLUSTER = Path(__file__).parents[2] / "cluster"
SCHEMAS = Path(__file__).with_name("schemas")
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *CLUSTER.glob("*.sbatch")])
STOPPED = RunConfig().stop_exit_code
INSTRUCTIONS = {
    *("FROM", "ENV", "RUN", "WORKDIR", "COPY", "CMD", "ADD", "ARG", "ENTRYPOINT", "EXPOSE"),
    *("HEALTHCHECK", "LABEL", "SHELL", "STOPSIGNAL", "USER", "VOLUME"),
}
"""Of Dockerfiles, by Docker's reference."""


@pytest.fixture(scope="module")
def validator():
    def make(name: str) -> jsonschema.Draft202012Validator:
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema)

    return make


@pytest.fixture
def manifests():
    return list(yaml.safe_load_all((CLUSTER / "k8s-job.yaml").read_text()))


@pytest.fixture
def task():
    return yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())


def test_the_kubernetes_manifests_keep_their_schema(validator, manifests):
    assert [manifest["kind"] for manifest in manifests] == ["Service", "Job"]
    for manifest in manifests:
        validator("kubernetes").validate(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("podFailurePolicy/rules/0/action", "Fail"),
        ("podFailurePolicy/rules/0/onExitCodes/values", [0]),
        ("podFailurePolicy/rules/0/onPodConditions", []),
        ("template/spec/restartPolicy", "OnFailure"),
        ("template/spec/containers/0/env/0/value", 2),
        ("template/spec/gracePeriod", 180),
    ],
)
def test_mistakes_in_a_manifest_are_found(validator, manifests, path, value):
    job = copy.deepcopy(manifests[1])
    place = job["spec"]
    *names, last = path.split("/")
    for name in names:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        validator("kubernetes").validate(job)


def test_the_pods_of_the_job_find_each_other_and_say_how_a_run_ended(manifests):
    service, job = manifests
    pod = job["spec"]["template"]["spec"]
    [train] = pod["containers"]
    name = job["metadata"]["name"]
    # A pod of an indexed job has the host name JOB-INDEX, below the service of its subdomain.
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name}
    variables = {item["name"]: item.get("value") for item in train["env"]}
    assert variables["MASTER_ADDR"] == f"{name}-0.{pod['subdomain']}"
    assert int(variables["NNODES"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    by_code = {
        rule["onExitCodes"]["values"][0]: rule["action"]
        for rule in job["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert by_code == {2: "FailJob", STOPPED: "Ignore"}
    assert {mount["name"] for mount in train["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_skypilot_task_keeps_its_schema_and_recovers_a_run_that_was_stopped(validator, task):
    validator("skypilot").validate(task)
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == STOPPED
    with pytest.raises(jsonschema.ValidationError):
        validator("skypilot").validate({**task, "nodes": 2})


def test_skypilot_mounts_the_runs_so_that_logs_can_be_appended_to(task):
    # Its mode MOUNT has no append.
    assert task["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    assert "run.root=/runs" in task["run"]


@pytest.mark.parametrize(
    "script", [*SCRIPTS, "skypilot.yaml"], ids=lambda script: Path(script).name
)
def test_shells_read_the_scripts(script, task):
    text = script.read_text() if isinstance(script, Path) else f"{task['setup']}\n{task['run']}"
    is_bash = text.startswith("#!/bin/bash") or script == "skypilot.yaml"
    shell = "bash" if is_bash else "sh"
    read = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script):
    found = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_options_of_slurm_are_said_once_and_requeue_has_the_exit_code():
    for script in CLUSTER.glob("*.sbatch"):
        text = script.read_text()
        options = re.findall(r"^#SBATCH (--[a-z-]+)", text, re.MULTILINE)
        assert len(options) == len(set(options)) > 5
        assert f"STOPPED={STOPPED} " in text


def test_the_dockerfile_has_known_instructions_and_commands_that_a_shell_reads():
    text = re.sub(r"^#.*\n", "", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").strip().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines]
    assert instructions[0][0] == "FROM"
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    for name, argument in instructions:
        if name == "RUN":
            subprocess.run(["sh", "-n", "-c", argument], check=True)
        if name == "CMD":
            assert all(isinstance(word, str) for word in json.loads(argument))


def test_what_git_ignores_does_not_go_into_the_image():
    ignored, left_out = (
        {line.removeprefix("**/").strip("/") for line in lines if not line.startswith("#")}
        for lines in (
            (CLUSTER.parent / name).read_text().splitlines()
            for name in (".gitignore", ".dockerignore")
        )
    )
    assert left_out == ignored

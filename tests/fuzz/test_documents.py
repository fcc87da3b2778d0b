"""Readers of documents: whatever they are given, they answer, or refuse in a sentence."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from dist_test.cli.job_file import Submission, make_job, read_job_file, to_document
from dist_test.errors import ConfigurationError, InvalidIsolate, InvalidJob, InvalidSnapshot
from dist_test.isolate.isolate_file import Variables, load_isolate, parse_gen_file
from dist_test.model.job import parse_job, parse_original_job
from dist_test.model.task import QueueEntry
from dist_test.settings import MasterSettings, SlaveSettings, load_master_settings, load_slave_settings
from dist_test_autoscale.command import ExitStatus, main
from dist_test_autoscale.settings import load_settings

from .conftest import Fuzz
from .mutations import edited_json, edited_literal
from .target import Target, refusal

OWN_FILE_BYTES = 2**16  # what people write for themselves is read by slower parsers
HASH = "a" * 40
TASK = {
    "isolate_hash": HASH,
    "description": "a-test",
    "timeout": 10,
    "max_retries": 1,
    "artifact_archive_globs": ["logs/*.txt"],
    "docker_image": "debian:12",
    "env": {"LANG": "C"},
}
JOB = {"job_id": "job", "tasks": [TASK], "name": "n", "project": "p", "owner": "ann", "max_failed_tasks": 3}
ISOLATE = {
    "variables": {"command": ["./x", "<(NAME)"], "files": ["a", "d/", "../<(OTHER)/b"], "read_only": 1},
    "conditions": [["OS == 'linux' and (BITS == 64 or OS == 'mac')", {"variables": {"files": ["c"]}}]],
    "includes": [],
}
GEN = {"version": 1, "dir": "/src", "args": ["-i", "a.isolate", "-s", "a.isolated", "--extra-variable", "A=b"]}
ENTRY = TASK | {
    "job": 1,
    "index": 0,
    "attempt": 0,
    "job_id": "job",
    "delivery": 1,
    "avoid": ["s"],
    "expected_seconds": 1,
}
GROUP = {"name": "g", "zone": "z", "priority": 0, "spot": True, "min": 0, "max": 9}
SLAVE = {
    **{"name": "i", "instance_id": "x", "slots": 1, "busy": 0, "state": "up", "want": "run", "lease_held": False},
    **{"heartbeat": 995.0, "idle_since": 400.0, "started": 0},
}
INSTANCE = {"name": "i", "id": "x", "action": "NONE", "status": "RUNNING", "first_seen": 0, "errors": [{"code": "E"}]}
SNAPSHOT = {
    "config": {"size": {"target_drain_s": 600, "max_total": 9}, "out": {"max_per_min": 3}, "group": [GROUP]},
    "now": 1000.0,
    "queue": {"ready": 5, "reserved": 0, "delayed": 0, "buried": 0, "paused": False, "server_id": "a", "at": 1000.0},
    "jobs": [{"job_id": "j", "ready_n": 5, "ready_s": 60, "running_n": 0, "running_left_s": 0, "longest_s": 60}],
    "slaves": [SLAVE],
    "groups": [{"name": "g", "target": 1, "ok": True, "autoscaler": False, "instances": [INSTANCE]}],
    "state": {
        **{"wanted": [[999, 1]], "bought": [[999, 1]], "drained": [], "hold_in_until": None, "server_id": "a"},
        **{"backoffs": {"g": {"until": 999, "seconds": 9}}, "drains": [["i", "x", 999]], "doubt_since": None},
    },
}


def read_job(data: bytes) -> str:
    """As the strict API reads it; what it takes, it takes again from its own words."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return "not JSON"
    try:
        job = parse_job(document)
    except InvalidJob as exc:
        return refusal(exc)
    assert parse_job(json.loads(json.dumps(to_document(job)))) == job
    return "a job"


def read_original_job(data: bytes) -> str:
    try:
        job = parse_original_job("prefix.ann.1400000000.1", data.decode("utf-8", "replace"))
    except InvalidJob as exc:
        return refusal(exc)
    return f"a job with a name {job.name == 'prefix'}, {len(job.fingerprint)} digits"


def read_entry(data: bytes) -> str:
    try:
        return f"an entry {type(QueueEntry.from_body(data).key.job).__name__}"
    except InvalidJob as exc:
        return refusal(exc)[:40]  # what follows is the entry


def read_snapshot(data: bytes, path: Path) -> str:
    """As `plan --snapshot` reads it: it decides, or says in a line what is wrong with the file."""
    path.write_bytes(data)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = ExitStatus(main(["plan", "--snapshot", str(path), "--json"]))
    if status is ExitStatus.MISCONFIGURED:
        return refusal(InvalidSnapshot(err.getvalue().splitlines()[0].replace(str(path), "FILE")))
    assert status in (ExitStatus.OK, ExitStatus.CHANGE_WANTED, ExitStatus.HOLD)
    decision = json.loads(out.getvalue(), parse_constant=pytest.fail)
    return f"{status.name} {decision['hold']} {sorted({action['kind'] for action in decision['actions']})}"


def read_isolate(data: bytes) -> str:
    """Files separated by lines of `==== NAME`, the first of which is the one that is loaded."""
    texts = files_of(data)

    def read(path: Path) -> str:
        name = str(path.relative_to("/src")) if path.is_relative_to("/src") else ""
        if name not in texts:
            raise InvalidIsolate(f"{str(path)[:200]!r} cannot be read")
        return texts[name]

    variables = Variables(path={"NAME": "out"}, extra={"OTHER": "o"}, config={"OS": "linux", "BITS": "64"})
    try:
        isolate = load_isolate(Path("/src/main"), variables, working_directory=Path("/src"), read=read)
    except InvalidIsolate as exc:
        return refusal(exc)
    return f"command {bool(isolate.command)}, files {min(len(isolate.files), 3)}, read_only {isolate.read_only}"


def files_of(data: bytes) -> dict[str, str]:
    first, *others = data.decode("utf-8", "replace").split("\n==== ")
    named = (part.partition("\n") for part in others)
    return {"main": first, **{name: text for name, _, text in named}}


def read_gen(data: bytes) -> str:
    try:
        options = parse_gen_file(data.decode("utf-8", "replace"))
    except InvalidIsolate as exc:
        return refusal(exc)
    return f"options {bool(options.name)} {options.blacklist is None}"


def read_job_and_options(data: bytes, path: Path) -> str:
    """As `dist-test submit` reads it."""
    path.write_bytes(data)
    told: list[str] = []
    try:
        document = read_job_file(str(path))
        job = make_job(document, Submission(), user="ann", make_id="job-{}".format, warn=told.append)
    except InvalidJob as exc:
        return refusal(exc)
    return f"a job, {len(told)} warnings, owner {bool(job.owner)}"


def read_cnf(data: bytes, path: Path) -> str:
    """As each service reads it. All mistakes are told at once, so the message may be long, but no line of it."""
    path.write_bytes(data)
    environ = {"DIST_TEST_CNF": str(path), "HOME": "/nonexistent"}
    answers: list[MasterSettings | SlaveSettings | str] = []
    for load in (load_master_settings, load_slave_settings):
        try:
            answers.append(load(environ))
        except ConfigurationError as exc:
            lines = str(exc).replace(str(path), "FILE").splitlines()
            answers += sorted({refusal(ConfigurationError(line)) for line in lines})[:1]
    return " ".join(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


def read_toml(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    try:
        settings = load_settings(path)
    except ConfigurationError as exc:
        return refusal(ConfigurationError(str(exc).splitlines()[0].replace(str(path), "FILE")))
    return f"settings of {min(len(settings.policy.groups), 2)} groups"


def strict(*documents: Any) -> Any:
    return edited_json(documents)


def test_a_job_is_read_or_refused(fuzz: Fuzz) -> None:
    fuzz(Target(name="job", read=read_job, inputs=strict(JOB)))


def test_a_job_of_the_originals_client_is_read_or_refused(fuzz: Fuzz) -> None:
    fuzz(Target(name="original-job", read=read_original_job, inputs=strict({"tasks": [TASK]})))


def test_a_job_file_is_read_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    fuzz(Target(name="job-file", read=lambda data: read_job_and_options(data, path), inputs=strict(JOB)))


def test_an_entry_of_the_queue_is_read_or_refused(fuzz: Fuzz) -> None:
    fuzz(Target(name="queue-entry", read=read_entry, inputs=strict(ENTRY)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_an_isolate_file_is_read_or_refused(fuzz: Fuzz) -> None:
    inputs = st.lists(edited_literal([ISOLATE, {"includes": ["a", "b", "a"]}]), min_size=1, max_size=3)
    texts = inputs.map(lambda parts: b"\n==== a\n".join(parts))
    fuzz(Target(name="isolate-file", read=read_isolate, inputs=texts, large_bytes=OWN_FILE_BYTES))


def test_a_gen_file_is_read_or_refused(fuzz: Fuzz) -> None:
    fuzz(Target(name="gen-file", read=read_gen, inputs=strict(GEN)))


def test_a_snapshot_is_decided_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    fuzz(Target(name="snapshot", read=lambda data: read_snapshot(data, path), inputs=strict(SNAPSHOT)))


def test_a_configuration_file_is_read_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "dist_test.cnf"
    lines = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=8)
    inputs = lines.map(lambda found: "\n".join(found).encode())
    fuzz(Target(name="cnf", read=lambda data: read_cnf(data, path), inputs=inputs, large_bytes=OWN_FILE_BYTES))


def test_the_autoscalers_configuration_is_read_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "autoscale.toml"
    lines = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=8)
    inputs = lines.map(lambda found: "\n".join(found).encode())
    fuzz(Target(name="toml", read=lambda data: read_toml(data, path), inputs=inputs, large_bytes=OWN_FILE_BYTES))

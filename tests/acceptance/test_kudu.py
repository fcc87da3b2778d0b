"""Kudu's build-support/dist_test.py and its Jenkins job, played step by step on a cluster of real processes.

Everything goes through the programs that they call: `isolate` on PATH, $DIST_TEST_HOME/bin/client, rm and mv.
"""

import json
import pprint
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from dist_test.isolate.digest import digest_bytes
from dist_test.local.program import beside_python

from ..farm import Farm

TESTS = 2000  # of each, half in C++'s form and half in Java's
FORM_TASKS = 10_000
FORM_BYTES = 2_500_000
TIMEOUT_SECONDS = 930
BINARY = "a binary of some size\n"
GLOB = "build/*/test-logs/**/*"

# What Kudu's runner does to its tree: rewrites a binary in place, links, unlinks what came with a directory.
RUN_DIST_TEST = """\
#!/bin/sh -e
cd "$(dirname "$0")/.."
printf 'rewritten' | dd of=build/debug/bin/kudu conv=notrunc status=none
ln -s kudu build/debug/bin/kudu-master
rm thirdparty/opt/hive/lib/hive.jar
test "$(cat build/debug/lib/libkudu.so.1)" = library
mkdir -p build/debug/test-logs/deep test-tmp
echo "<testsuite name='$1'/>" > "build/debug/test-logs/$1.xml"
echo "$1 says" > build/debug/test-logs/deep/$1.txt
test "$1" != "$2"
"""


class Checkout:
    """Kudu's repository, built: what its tests need, and the staging directory of its dist_test.py."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stage = root / "build/isolate"
        self.java_stage = root / "java/build/dist-test"
        for directory in (self.stage, self.java_stage):
            directory.mkdir(parents=True)
        self._write("build-support/run_dist_test.py", RUN_DIST_TEST, mode=0o755)
        self._write("build/debug/bin/kudu", BINARY, mode=0o755)
        self._write("build/debug/lib/libkudu.so.1.2", "library")
        (root / "build/debug/lib/libkudu.so.1").symlink_to("libkudu.so.1.2")
        for number in range(50):
            self._write(f"thirdparty/opt/hive/lib/{number}.jar", f"jar {number}")
        self._write("thirdparty/opt/hive/lib/hive.jar", "hive")
        (root / "thirdparty/opt/hive/current").symlink_to("lib")
        self._write("java/build/libs/a=b.jar", "java")
        self._write("java/build/libs/it's.jar", "java too")

    def _write(self, path: str, content: str, *, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def stage_cpp(self, name: str, *arguments: str) -> None:
        """As create_archive_input does: pprint of a dict, of files with duplicates and overlaps."""
        files = [
            "build-support/run_dist_test.py",
            "build/debug/bin/kudu",
            "build/debug/bin/kudu",
            "build/debug/lib/libkudu.so.1",
            "build/debug/lib/",
            "thirdparty/opt/hive/",
            "thirdparty/opt/hive/lib/1.jar",
        ]
        long = "--gtest_filter=" + " ".join(f"Test{number}.WithANameOfItsOwn" for number in range(8))
        command = ["../../build-support/run_dist_test.py", name, *(arguments or ("-",)), long]
        isolate = {"variables": {"command": command, "files": [f"../../{path}" for path in files]}}
        path = self.stage / f"{name}.0.isolate"
        with path.open("w") as stream:
            pprint.pprint(isolate, stream=stream)
        self._stage_gen(self.stage / f"{name}.0.gen.json", ["-i", str(path), "-s", f"{path}d"])

    def stage_java(self, name: str) -> None:
        """As the Gradle plugin does: Gson's JSON with its quotes exchanged."""
        files = ["build-support/run_dist_test.py", "build/debug/bin/kudu", "build/debug/lib/", "thirdparty/opt/hive/"]
        files += ["java/build/libs/a=b.jar", "java/build/libs/it's.jar"]
        command = ["../../../build-support/run_dist_test.py", name, "-", "-Dx=<&>"]
        document = {"variables": {"command": command, "files": [f"../../../{path}" for path in files]}}
        text = json.dumps(document, indent=2)
        for character in "=<>&'":
            text = text.replace(character, f"\\u{ord(character):04x}")
        path = self.java_stage / f"{name}.isolate"
        path.write_text(text.replace('"', "'"))
        self._stage_gen(self.java_stage / f"{name}.gen.json", ["-i", str(path), "-s", f"{path}d"])

    def _stage_gen(self, path: Path, arguments: list[str]) -> None:
        document = {"version": 1, "dir": str(self.root), "args": arguments, "name": f"{path.stem}/1"}
        path.write_text(json.dumps(document))

    def gen_files(self) -> list[str]:
        return [str(path) for stage in (self.stage, self.java_stage) for path in stage.glob("*.gen.json")]


class Jenkins:
    """The shell of Kudu's job: `isolate` on PATH, $DIST_TEST_HOME, and nothing but the names of the servers."""

    def __init__(self, farm: Farm, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "dist_test"
        subprocess.run([beside_python("dist-test"), "install-shims", self.home], check=True, capture_output=True)
        self.last_job = directory / "last-job"
        self._environment = {
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1",
            "ISOLATE_SERVER": f"http://127.0.0.1:{farm.isolate.port}/",
            "DIST_TEST_MASTER": f"{farm.url}/",
            "DIST_TEST_HOME": str(self.home),
            "DIST_TEST_JOB_PATH": str(self.last_job),
        }

    def sh(self, script: str, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a script of the job; it has to exit 0."""
        done = self.try_sh(script, *arguments, cwd=cwd)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done

    def try_sh(self, script: str, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        command = ["/bin/sh", "-e", "-c", script, "sh", *arguments]
        return subprocess.run(
            command, cwd=cwd or self.directory, env=self._environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def cluster(farm: Farm) -> Farm:
    # The lease of 2 s that other tests have is too short for 10,000 tasks on a busy machine.
    farm.start(master={"submit_lease_seconds": "30"})
    return farm


@pytest.fixture
def jenkins(cluster: Farm, tmp_path: Path) -> Jenkins:
    return Jenkins(cluster, tmp_path)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    yield Checkout(tmp_path / "kudu")
    shutil.rmtree(tmp_path / "kudu")


def isolate_all(jenkins: Jenkins, checkout: Checkout) -> dict[str, str]:
    """run_isolate and the first half of create_task_json: the hash by name."""
    dump = checkout.stage / "dump.json"
    script = 'isolate batcharchive "-isolate-server=$ISOLATE_SERVER" "-dump-json=$0" -- "$@"'.replace("$0", str(dump))
    done = jenkins.sh(script, *checkout.gen_files(), cwd=checkout.root)
    inmap = json.loads(dump.read_text())
    items: dict[str, str] = inmap.get("items", inmap)
    assert sorted(done.stdout.splitlines()) == sorted(f"{digest}  {name}" for name, digest in items.items())
    return items


def task_json(digest: str, name: str, **fields: Any) -> dict[str, Any]:
    """A task as create_task_json writes it."""
    return {
        "isolate_hash": digest,
        "description": name,
        "artifact_archive_globs": [GLOB],
        "timeout": TIMEOUT_SECONDS,
        "max_retries": 0,
        **fields,
    }


def test_thousands_of_tests_are_isolated_and_a_form_of_10000_tasks_is_accepted(
    cluster: Farm, jenkins: Jenkins, checkout: Checkout
) -> None:
    for number in range(TESTS // 2):
        checkout.stage_cpp(f"kudu-test-{number}")
        checkout.stage_java(f"org.apache.kudu.Test{number}")
    items = isolate_all(jenkins, checkout)
    assert len(items) == TESTS
    assert {"kudu-test-0.0", "org.apache.kudu.Test0"} <= items.keys()
    document = json.loads((checkout.stage / "kudu-test-0.0.isolated").read_text())
    assert document["relative_cwd"] == "build/isolate"
    assert digest_bytes((checkout.stage / "kudu-test-0.0.isolated").read_bytes()) == items["kudu-test-0.0"]
    java = json.loads((checkout.java_stage / "org.apache.kudu.Test0.isolated").read_text())
    assert java["relative_cwd"] == "java/build/dist-test"
    assert java["command"][-1] == "-Dx=<&>"
    assert {"java/build/libs/a=b.jar", "java/build/libs/it's.jar"} <= java["files"].keys()

    tasks = [task_json(digest, name, max_retries=-1) for name, digest in items.items()] * (FORM_TASKS // TESTS)
    form = {"job_id": "kudu.1700000000.1", "job_json": json.dumps({"tasks": tasks})}
    assert len(urlencode(form)) > FORM_BYTES
    answer = requests.post(f"{cluster.url}//submit_job", data=form, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"status": "SUCCESS"})
    status = requests.get(f"{cluster.url}/job_status", params={"job_id": form["job_id"]}, timeout=30).json()
    assert (status["total_groups"], status["status"]) == (FORM_TASKS, "running")
    jenkins.sh(f"$DIST_TEST_HOME/bin/client cancel {form['job_id']}")
    status = requests.get(f"{cluster.url}/job_status", params={"job_id": form["job_id"]}, timeout=30).json()
    assert status["status"] == "finished"


def test_a_job_of_kudus_runs_and_its_artifacts_are_sorted_as_jenkins_does(
    cluster: Farm, jenkins: Jenkins, checkout: Checkout
) -> None:
    cluster.slave()
    names = ("client-test", "master-test")
    for name in names:
        checkout.stage_cpp(name)
    checkout.stage_java("org.apache.kudu.TestClient")
    items = isolate_all(jenkins, checkout)
    tasks = [task_json(digest, name, max_retries=-1) for name, digest in items.items()]
    tasks += [task_json(items["client-test.0"], "client-test.0")] * 2  # `loop -n` repeats the very same dict
    job = checkout.stage / "tasks.json"
    job.write_text(json.dumps({"tasks": tasks}))

    submitted = jenkins.sh(f"$DIST_TEST_HOME/bin/client submit --no-wait {job}")
    job_id = jenkins.sh('cat "$DIST_TEST_JOB_PATH"').stdout
    assert f"INFO:dist_test.client:Submitted job {job_id}\n" in submitted.stderr
    watched = jenkins.sh(f"$DIST_TEST_HOME/bin/client watch {job_id}")
    assert watched.stdout.splitlines()[-1].endswith(f"\t {len(tasks)}/{len(tasks)} tests complete")

    jenkins.sh(f"$DIST_TEST_HOME/bin/client fetch --artifacts -d fetched {job_id}")
    fetched = jenkins.directory / "fetched"
    assert len(list(fetched.glob("*.zip"))) == len(tasks)
    jenkins.sh("mkdir logs && rm -f fetched/*zip")
    for entry in list(fetched.iterdir()):
        jenkins.sh('mv "$1"/build/debug/test-logs/* logs/ && rm -Rf "$1" logs/deep', str(entry))
    assert list(fetched.iterdir()) == []
    expected = {"client-test.xml", "master-test.xml", "org.apache.kudu.TestClient.xml"}
    assert {path.name for path in (jenkins.directory / "logs").iterdir()} == expected
    jenkins.sh("rmdir fetched")


def test_a_test_that_changes_its_files_leaves_those_of_others_alone(
    cluster: Farm, jenkins: Jenkins, checkout: Checkout
) -> None:
    """Each attempt finds the binary as it was archived, though the one before it has rewritten its own."""
    cluster.slave()
    checkout.stage_cpp("fails", "fails")
    digest = isolate_all(jenkins, checkout)["fails.0"]
    job = checkout.stage / "tasks.json"
    job.write_text(json.dumps({"tasks": [task_json(digest, "fails.0", max_retries=1)] * 2}))
    done = jenkins.try_sh(f"$DIST_TEST_HOME/bin/client submit --logs --artifacts -d out {job}")
    assert done.returncode == 88, done.stderr
    assert done.stdout.splitlines()[-1] == f"job_id={jenkins.last_job.read_text()}"
    assert "(2 failed) (2 retries)" in done.stdout.splitlines()[-2]
    logs = list((jenkins.directory / "out").glob("*.stderr"))
    assert [log.read_text() for log in logs] == [""] * 4, "every step but the last has succeeded in each attempt"
    cached = list(cluster.files.cache_dir.glob(f"**/{digest_bytes(BINARY.encode())}"))
    assert [path.read_text() for path in cached] == [BINARY]


def test_grinds_way_of_one_isolate_file_with_variables(cluster: Farm, jenkins: Jenkins, tmp_path: Path) -> None:
    cluster.slave()
    project = tmp_path / "grind"
    project.mkdir()
    (project / "run_test.sh").write_text('#!/bin/sh\ntest "$1" = pom.xml && echo "$2" > out.txt\n')
    (project / "run_test.sh").chmod(0o755)
    variables = {"command": ["run_test.sh", "<(POM)", "<(TESTCLASS)"], "files": ["run_test.sh"]}
    (project / "disttest.isolate").write_text(str({"variables": variables}))
    for name in ("TestA", "TestB"):
        arguments = ["-i", "disttest.isolate", "-s", f"{name}.isolated"]
        arguments += ["--extra-variable", "POM=pom.xml", "--extra-variable", f"TESTCLASS={name}"]
        gen = {"version": 1, "dir": str(project), "args": arguments, "name": name}
        (project / f"{name}.isolated.gen.json").write_text(json.dumps(gen))
    jenkins.sh("isolate batcharchive --dump-json=hashes.json -- *.isolated.gen.json", cwd=project)
    hashes = json.loads((project / "hashes.json").read_text())
    tasks = [
        {"isolate_hash": digest, "description": name, "artifact_archive_globs": ["out.txt"], "timeout": 600}
        for name, digest in hashes.items()
    ]
    (project / "run.json").write_text(json.dumps({"tasks": tasks}))
    jenkins.sh("$DIST_TEST_HOME/bin/client submit --artifacts --output-dir results --name grind run.json", cwd=project)
    assert {path.read_text() for path in (project / "results").glob("*/out.txt")} == {"TestA\n", "TestB\n"}

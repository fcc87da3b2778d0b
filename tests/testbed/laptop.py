"""This computer as a developer's: the commands that a user types, over the cluster's front door and nothing else."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from dist_test.local import demo
from dist_test.local.configuration import clean_environment
from dist_test.local.program import beside_python
from dist_test.local.verdict import differences
from tests.testbed.bed import Bed
from tests.testbed.deployments import REPOSITORY, resolve

_CERTIFICATE = "/etc/dist_test/tls/certificate.pem"
_SECONDS = 180  # the suite takes 20 on two idle slaves


class ClientFailed(Exception):
    """A command of dist-test ended with a status that it should not have."""


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """`directory` takes the client's files; `certificate` is the file by which it trusts the cluster.

    `namespace` is the network namespace that it is in; empty: this computer's own, whose addresses the hosts trust.
    """

    directory: Path
    url: str
    certificate: Path
    user: str
    password: str
    namespace: str = ""

    @classmethod
    def beside(cls, bed: Bed, directory: Path) -> "Laptop":
        """One that has an account of the inventory's and the certificate that the master made for itself."""
        certificate = directory / "certificate.pem"
        certificate.write_text(bed.host("master1").ssh(f"sudo cat {_CERTIFICATE}"))
        master = resolve("testbed").hosts["master1"].roles["master"]
        user, password = next(iter(master.vars["master_accounts"].items()))
        url = f"https://{bed.address('master1')}"
        return cls(directory=directory, url=url, certificate=certificate, user=user, password=password)

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(os.environ) | {
            "DIST_TEST_CNF": str(self._configuration()),
            "DIST_TEST_MASTER": self.url,
            "DIST_TEST_USER": self.user,
            "DIST_TEST_PASSWORD": self.password,
            "DIST_TEST_JOB_PATH": str(self.directory / "last-job"),
            "ISOLATE_SERVER": self.url,
            "ISOLATE_CACHE_DIR": str(self.directory / "cache"),
            "REQUESTS_CA_BUNDLE": str(self.certificate),
        }

    def run(self, *arguments: str, expected_statuses: Sequence[int] = (0,)) -> str:
        """`dist-test ARGUMENTS`; what it prints. Raises ClientFailed for another status."""
        command = self.command(*arguments)
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        if done.returncode not in expected_statuses:
            raise ClientFailed(f"{' '.join(arguments[:2])}: status {done.returncode}: {done.stdout}\n{done.stderr}")
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """How to run `dist-test` where the laptop is, in its `environment`."""
        return [*self.prefix, beside_python("dist-test"), *arguments]

    @property
    def prefix(self) -> list[str]:
        """What runs a command where the laptop is."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def get(self, path: str) -> Any:
        """A JSON document of the master's."""
        answer = requests.get(f"{self.url}{path}", verify=str(self.certificate), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _configuration(self) -> Path:
        """An empty file, so that no configuration of whoever runs the tests is read."""
        path = self.directory / "client.cnf"
        path.touch()
        return path


def run_sample_suite(laptop: Laptop) -> Mapping[str, Sequence[str]]:
    """Submit tests/sample_suite; by test what came out other than expected.json says, empty for all is well."""
    suite = demo.Suite.read(REPOSITORY / "tests/sample_suite")
    work_dir, results_dir = laptop.directory / "work", laptop.directory / "results"
    work_dir.mkdir(exist_ok=True)
    # The demo's own steps: what is proved here is that the same suite passes on a deployed cluster.
    digests = demo._archive(suite, work_dir, laptop.environment)
    job_path = work_dir / "job.json"
    tasks = [task | {"isolate_hash": digests[task["description"]]} for task in suite.tasks]
    job_path.write_text(json.dumps({"tasks": tasks}))
    submit = ["submit", "--name", "testbed", "--output-dir", str(results_dir), "--logs", "--artifacts", str(job_path)]
    laptop.run(*submit, expected_statuses=demo._FINISHED_STATUSES)
    job_id = (laptop.directory / "last-job").read_text().strip()
    attempts = laptop.get(f"/api/v1/jobs/{job_id}/attempts?limit=1000")["attempts"]
    results = demo._results(attempts, suite.expectations, results_dir)
    return {name: differences(expected, results[name]) for name, expected in suite.expectations.items()}

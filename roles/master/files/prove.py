#!/usr/bin/python3
"""prove ADDRESS NAME [BUCKET]: ask the master of this host through nginx; exit status 1 if an answer is not right.

ADDRESS is where nginx is asked, NAME the name that people use. BUCKET is given when nginx serves it.
"""

import http.client
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_CERTIFICATE = Path("/etc/dist_test/tls/certificate.pem")
_START_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request, and the statuses that are right answers to it."""

    method: str
    path: str
    host: str
    statuses: tuple[int, ...]


def main(arguments: list[str]) -> int:
    address, name, *buckets = arguments
    _wait(address, Question(method="GET", path="/healthz", host=name, statuses=(200,)))
    for question in _questions(name, buckets):
        if problem := _problem(address, question):
            sys.exit(problem)
    return 0


def _questions(name: str, buckets: list[str]) -> list[Question]:
    return [
        # Without an account and without a job: 401, or 400 where this host's own address needs no account.
        Question(method="POST", path="/submit_job", host=name, statuses=(400, 401)),
        # The original's slaves ask with two slashes; a redirect would lose the form.
        Question(method="POST", path="//submit_job", host=name, statuses=(400, 401)),
        Question(method="GET", path="/healthz", host="not-ours.invalid", statuses=(421,)),
        *(Question(method="GET", path=f"/{bucket}/none", host=name, statuses=(403,)) for bucket in buckets),
    ]


def _wait(address: str, question: Question) -> None:
    """Ask until the answer is right, as it is not while the master is starting."""
    deadline = time.monotonic() + _START_SECONDS
    while problem := _problem(address, question):
        if time.monotonic() > deadline:
            sys.exit(problem)
        time.sleep(1)


def _problem(address: str, question: Question) -> str | None:
    what = f"{question.method} https://{address}{question.path} for {question.host}"
    connection = http.client.HTTPSConnection(address, timeout=20, context=_context())
    try:
        connection.request(question.method, question.path, headers={"Host": question.host})
        answer = connection.getresponse()
        text = answer.read(1000).decode(errors="replace")
        if _certificate_of(connection) != _first_certificate():
            return f"{what}: nginx has another certificate than {_CERTIFICATE}"
    except (OSError, http.client.HTTPException) as exc:
        return f"{what}: {exc!r}"
    finally:
        connection.close()
    return None if answer.status in question.statuses else f"{what} is answered {answer.status}: {text}"


def _context() -> ssl.SSLContext:
    # Instead of a signature, the certificate itself is compared: the name need not lead to this host.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_of(connection: http.client.HTTPSConnection) -> bytes | None:
    assert isinstance(connection.sock, ssl.SSLSocket)  # it is connected
    return connection.sock.getpeercert(binary_form=True)


def _first_certificate() -> bytes:
    text, end, _ = _CERTIFICATE.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :] + end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

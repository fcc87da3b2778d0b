"""When the command `master-certificate` of the role master makes a new certificate."""

import contextlib
import ssl
import subprocess
from pathlib import Path

import pytest

from roles.master.files.certificate import main

NAMES = ("Tests.example", "192.0.2.11")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.strip()


@pytest.fixture
def directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A directory with a certificate for NAMES."""
    run(capsys, tmp_path, *NAMES)
    return tmp_path


def shake_hands(directory: Path, name: str) -> None:
    """Have a client that trusts the certificate's file meet a server of this name. Raises SSLCertVerificationError."""
    accepted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepted.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepted.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cafile=str(directory / "certificate.pem"))
    # As it is by default from Python 3.13 on.
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert()


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def sign_by_somebody(directory: Path) -> None:
    """Replace the certificate by one for the same names and the same key that somebody else signed."""
    authority = ["-CA", directory / "ca.pem", "-CAkey", directory / "ca.key", "-CAcreateserial"]
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    openssl(
        *("req", "-x509", *new_key, "-keyout", directory / "ca.key", "-out", directory / "ca.pem"),
        *("-days", "90", "-subj", "/CN=authority"),
    )
    openssl("req", "-new", "-key", directory / "key.pem", "-out", directory / "request", "-subj", "/CN=master")
    (directory / "extensions").write_text("subjectAltName=DNS:tests.example,IP:192.0.2.11\n")
    openssl(
        *("x509", "-req", "-in", directory / "request", "-out", directory / "certificate.pem", *authority),
        *("-days", "90", "-extfile", directory / "extensions"),
    )


def renew_for(directory: Path, days: int) -> None:
    """Replace the certificate by one that ends so soon."""
    openssl(
        *("req", "-x509", "-key", directory / "key.pem", "-out", directory / "certificate.pem", "-days", days),
        *("-subj", "/CN=master", "-addext", "subjectAltName=DNS:tests.example,IP:192.0.2.11"),
    )


@pytest.mark.parametrize("name", ["tests.example", "192.0.2.11"])
def test_clients_that_trust_the_file_accept_each_of_its_names(directory: Path, name: str) -> None:
    shake_hands(directory, name)


def test_clients_refuse_a_name_that_the_certificate_is_not_for(directory: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(directory, "other.example")


def test_the_key_is_for_root_alone(directory: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"key.pem": 0o600, "certificate.pem": 0o644}


def test_a_certificate_stays_for_the_same_names_in_any_order(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (directory / "certificate.pem").read_bytes()
    assert run(capsys, directory, *reversed(NAMES)) == "unchanged"
    assert (directory / "certificate.pem").read_bytes() == before


def test_a_check_says_what_it_would_do_and_does_not_do_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--check", tmp_path, *NAMES) == "changed: there was no certificate"
    assert list(tmp_path.iterdir()) == []


def test_other_names_need_a_new_certificate(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, directory, "other.example")
    assert said == "changed: the certificate was for DNS:tests.example, IP Address:192.0.2.11"
    assert run(capsys, directory, "other.example") == "unchanged"


def test_a_certificate_of_an_authority_is_not_taken_for_ours(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_by_somebody(directory)
    assert run(capsys, directory, *NAMES) == "changed: the certificate was signed by somebody"
    assert run(capsys, directory, *NAMES) == "unchanged"


@pytest.mark.parametrize(
    ("days", "says"),
    [(29, "changed: the certificate was about to end"), (40, "unchanged")],
    ids=["in a month", "later"],
)
def test_a_certificate_is_renewed_in_its_last_month(
    directory: Path, capsys: pytest.CaptureFixture[str], days: int, says: str
) -> None:
    renew_for(directory, days)
    assert run(capsys, directory, *NAMES) == says


def test_a_key_of_another_certificate_is_replaced(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", directory / "key.pem")
    assert run(capsys, directory, *NAMES) == "changed: the key was another certificate's"
    assert run(capsys, directory, *NAMES) == "unchanged"

"""Where the server is found, and how it names itself: slashes, hosts, schemes, accounts (isolate.md 1 and 4)."""

import json

import pytest

from .raw import Connection, exchange, head
from .served import GZIP, V1, V1_DIRECT, Served, digest_of, lookup, stored_form


@pytest.mark.parametrize("base", [V1, V1_DIRECT])
def test_v1_is_found_behind_doubled_slashes(server: Served, content: bytes, base: str) -> None:
    answer = server.post(f"/{base}preupload", lookup([content]))
    assert (answer.status, len(answer.json["items"])) == (200, 1)
    assert server.request("GET", f"/{base}server_details").status == 200


def test_the_older_protocol_is_found_behind_doubled_slashes(server: Served, content: bytes) -> None:
    greeting = {"client_app_version": "0.3.4", "protocol_version": "1.0"}
    token = server.post("//content-gs/handshake", greeting).json["access_token"]
    items = [{"h": digest_of(content), "s": len(content), "i": 0}]
    ((upload_url, _),) = server.post(f"//content-gs/pre-upload/{GZIP}?token={token}", items).json
    doubled = "/" + upload_url.removeprefix(server.url)
    assert server.request("PUT", doubled, stored_form(content)).status == 200
    for slashes in ("//", "///"):
        answer = server.request("GET", f"{slashes}content-gs/retrieve/{GZIP}/{digest_of(content)}")
        assert (answer.status, answer.body) == (200, stored_form(content))


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_who_asks_about_accounts_is_answered_like_somebody(server: Served, slashes: str) -> None:
    config = server.request("GET", f"{slashes}auth/api/v1/server/oauth_config")
    assert (config.status, config.json) == (
        200,
        {"client_id": None, "client_not_so_secret": None, "primary_url": None},
    )
    account = server.request("GET", f"{slashes}auth/api/v1/accounts/self")
    kind, _, name = account.json["identity"].partition(":")
    assert (account.status, kind, "@" in name) == (200, "user", True)


def upload_url(server: Served, content: bytes, host: str, *lines: str, source: str = "127.0.0.1") -> str:
    body = json.dumps(lookup([content]) | {"inline_limit": 0}).encode()
    with Connection(server.port, source=source) as connection:
        connection.send(head("POST", V1 + "preupload", f"Content-Length: {len(body)}", *lines, host=host) + body)
        return str(connection.answer().json["items"][0]["gs_upload_url"])


@pytest.mark.parametrize(
    "host", ["isolate.test", "isolate.test:4242", "127.0.0.1:4242", "[::1]:4242", "localhost:443", "isolate_1:80"]
)
def test_addresses_have_the_host_and_port_that_the_client_used(server: Served, content: bytes, host: str) -> None:
    assert upload_url(server, content, host).startswith(f"http://{host}/content-gs/store/{GZIP}/")


@pytest.mark.parametrize("host", ["a/b", "a b", "user@host", "host:x", "localhost:443443"])
def test_a_host_that_is_none_is_answered_400_and_makes_no_address(server: Served, content: bytes, host: str) -> None:
    body = json.dumps(lookup([content]) | {"inline_limit": 0}).encode()
    answer = exchange(server.port, head("POST", V1 + "preupload", f"Content-Length: {len(body)}", host=host) + body)
    assert answer.status == 400


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_behind_a_proxy_addresses_have_its_host_and_scheme(server: Served, content: bytes, source: str) -> None:
    for host in ("dist-test.test", "dist-test.test:8443"):
        url = upload_url(server, content, host, "X-Forwarded-Proto: https", "X-Forwarded-Host: ", source=source)
        assert url.startswith(f"https://{host}/content-gs/store/")


def test_the_address_of_a_large_blob_has_the_clients_host_and_scheme_too(server: Served) -> None:
    content = b"\1" * 2**20 + b"2"
    digest = server.put(content, namespace="default")
    body = json.dumps({"digest": digest, "namespace": {"namespace": "default"}}).encode()
    lines = (f"Content-Length: {len(body)}", "X-Forwarded-Proto: https")
    answer = exchange(server.port, head("POST", V1 + "retrieve", *lines, host="dist-test.test") + body)
    assert answer.json == {"url": f"https://dist-test.test/content-gs/retrieve/default/{digest}"}


def test_a_whole_address_in_the_request_line_is_taken(server: Served, content: bytes) -> None:
    """As a client behind a forwarding proxy writes it."""
    target = f"{server.url}/content-gs/retrieve/{GZIP}/{server.put(content)}"
    assert exchange(server.port, head("GET", target)).body == stored_form(content)


@pytest.mark.parametrize("path", ["/", "/nothing", "/content-gs", "/content-gs/retrieve/default-gzip", "/_ah/api/x"])
def test_what_is_no_path_of_ours_is_answered_404_in_json(server: Served, path: str) -> None:
    answer = server.request("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (404, 404)

"""Who may change something: allowed addresses, else HTTP Digest; and nobody by way of somebody else's browser.

Every view is closed unless it is marked with `open_to_all`. For a closed one:
1. A request that another site's page may have caused is refused, whoever sends it.
2. A GET by a browser (the original changes things by GET) must carry Digest credentials: a link is not a decision.
3. Credentials that are sent are checked. Without any, an address in the allowed ranges is enough.

Flask-HTTPAuth does the arithmetic of RFC 7616; it checks neither the path nor the nonce's count, which is done here.
Nonces are signed, so every worker and host accepts those of all; their counts are in the database.
"""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import unquote

from flask import Flask, current_app, g, request
from flask_httpauth import HTTPDigestAuth  # type: ignore[import-untyped]  # it has no annotations
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.datastructures import Authorization, WWWAuthenticate
from werkzeug.exceptions import Forbidden, MethodNotAllowed, Unauthorized

from dist_test.master.addresses import is_within, parse_address
from dist_test.master.browsers import is_cross_site, is_from_browser
from dist_test.master.door import with_single_slashes
from dist_test.settings import MasterSettings
from dist_test.settings.values import Network
from dist_test.storage.nonces import Nonces

View = TypeVar("View", bound=Callable[..., Any])

REALM = "dist_test"  # the original's: people may have stored credentials for it
NONCE_LIFE = timedelta(minutes=5)
NONCE_MEMORY = 3 * NONCE_LIFE  # a nonce of a fast clock is accepted a little longer
CLOCK_SKEW = timedelta(minutes=1)  # between the hosts of several masters
ALLOWED_METHODS = ("GET", "POST")

_COUNT = re.compile(r"[0-9a-fA-F]{8}")
_RESPONSE = re.compile(r"[0-9a-f]{32}")
_OPEN = "is_open_to_all"


def open_to_all(view: View) -> View:
    """Mark a view that changes nothing: anybody may ask."""
    setattr(view, _OPEN, True)
    return view


def current_owner(sent: str) -> str:
    """The owner of what is being submitted: the authenticated user, else whom the client names."""
    user: str | None = g.get("user")
    return user or sent


class Guard:
    """Decides about every request before its view runs."""

    def __init__(self, settings: MasterSettings, nonces: Nonces, *, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since the epoch."""
        self._allowed: Sequence[Network] = settings.allowed_ip_ranges
        self._nonces = nonces
        self._now = now
        self._signer = TimestampSigner(settings.nonce_key, salt="dist_test digest nonce")
        self._digest = _digest_of(settings, new_nonce=self._new_nonce, is_ours=self._is_ours)

    def init_app(self, app: Flask) -> None:
        """Guard all views of the application."""
        app.before_request(self._check)

    def _check(self) -> None:
        if request.endpoint is None or _is_open(request.endpoint):
            return
        if request.method not in ALLOWED_METHODS:
            raise MethodNotAllowed(valid_methods=_known_methods())
        if is_cross_site(dict(request.headers), request.host):
            raise Forbidden("a page of another site may not do this; use dist-test, or this site's own pages")
        credentials = self._sent_credentials()
        if credentials is not None:
            g.user = self._authenticated_user(credentials)
        elif request.method == "GET" and is_from_browser(dict(request.headers)):
            raise Forbidden("a browser may not do this by GET; use POST, or dist-test")
        elif not is_within(parse_address(request.remote_addr or ""), self._allowed):
            raise self._challenge("give a user and a password: DIST_TEST_USER and DIST_TEST_PASSWORD")

    def _sent_credentials(self) -> Authorization | None:
        """Those of Digest; what is none of that counts as none."""
        try:
            credentials: Authorization | None = self._digest.get_auth()
        except ValueError:  # Werkzeug's, of a Basic with other bytes than ASCII's
            return None
        return credentials

    def _authenticated_user(self, credentials: Authorization) -> str:
        """The user's name. Raises Unauthorized."""
        if not _is_whole(credentials) or not is_about(credentials.uri or "", request.path, request.query_string):
            raise self._challenge("the credentials are not of this request")
        password = self._digest.get_auth_password(credentials)
        if not self._digest.authenticate(credentials, password):
            raise self._challenge("the user or the password is wrong")
        # Only now: a client that has the password repeats with a fresh nonce, and is not told that it is wrong.
        if not self._is_fresh(credentials.nonce or "", int(credentials.nc or "0", 16)):
            raise self._challenge("the nonce is used up; repeat with the new one", is_stale=True)
        return str(credentials.username)

    def _is_fresh(self, nonce: str, count: int) -> bool:
        _, signed_at = self._signer.unsign(nonce, return_timestamp=True)
        age = self._now() - signed_at.timestamp()
        if not -CLOCK_SKEW.total_seconds() <= age <= NONCE_LIFE.total_seconds():
            return False
        # False: another request came with this count before, on whichever host.
        return self._nonces.use(nonce, count)

    def _challenge(self, message: str, *, is_stale: bool = False) -> Unauthorized:
        challenge = WWWAuthenticate.from_header(self._digest.authenticate_header())
        assert challenge is not None  # Flask-HTTPAuth has written it
        if is_stale:
            challenge.stale = "true"
        return Unauthorized(message, www_authenticate=challenge)

    def _new_nonce(self) -> str:
        return self._signer.sign(secrets.token_hex(16)).decode()

    def _is_ours(self, nonce: str) -> bool:
        try:
            self._signer.unsign(nonce)
        except BadSignature:
            return False
        return True


def is_about(uri: str, path: str, query: bytes) -> bool:
    """Whether the `uri` that a client signed is the request's own; `path` is decoded and has single slashes. PURE."""
    if not uri.startswith("/"):  # an absolute address, as some clients sign it
        uri = "/" + uri.partition("://")[2].partition("/")[2]
    signed_path, _, signed_query = uri.partition("?")
    return with_single_slashes(unquote(signed_path)) == path and signed_query.encode("latin-1", "replace") == query


def _is_open(endpoint: str) -> bool:
    # Flask's own view of static files is not ours to mark.
    return endpoint == "static" or hasattr(current_app.view_functions[endpoint], _OPEN)


def _known_methods() -> list[str]:
    """Those of the allowed methods that the path knows, whichever view answers them."""
    adapter = current_app.create_url_adapter(request)
    return [method for method in ALLOWED_METHODS if adapter is not None and method in adapter.allowed_methods()]


def _is_whole(credentials: Authorization) -> bool:
    """Whether everything is there that makes a replay detectable, and nothing that would break the arithmetic."""
    return (
        credentials.qop == "auth"
        and credentials.realm == REALM
        and (credentials.algorithm or "MD5").upper() == "MD5"
        and bool(credentials.cnonce)
        and _COUNT.fullmatch(credentials.nc or "") is not None
        and _RESPONSE.fullmatch(credentials.response or "") is not None
    )


def _digest_of(
    settings: MasterSettings, *, new_nonce: Callable[[], str], is_ours: Callable[[str], bool]
) -> HTTPDigestAuth:
    digest = HTTPDigestAuth(realm=REALM, algorithm="MD5", qop="auth")
    digest.get_password(settings.accounts.get)
    digest.generate_nonce(new_nonce)
    digest.verify_nonce(is_ours)
    # The default keeps it in a session cookie, which plain clients never return. It protects nothing.
    digest.generate_opaque(lambda: REALM)
    digest.verify_opaque(lambda _: True)
    return digest

"""Leave to upload, signed and handed to the client: nothing of it is kept here."""

from dataclasses import astuple, dataclass

from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.exceptions import BadRequest

_SECONDS = 4 * 3600  # as in the original
_HANDSHAKE = "handshake"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Leave to upload one blob. `kind`: "inline", or "stream" for a PUT."""

    kind: str
    namespace: str
    digest: str
    size_bytes: int


class Tickets:
    """Signs tickets, and tells its own from others. What it signs needs no quoting in an address."""

    def __init__(self, key: str) -> None:
        self._signer = URLSafeTimedSerializer(key, salt="dist_test isolate")

    def sign(self, ticket: Ticket) -> str:
        """The ticket as the client gets it; good for four hours."""
        return self._signer.dumps(astuple(ticket))

    def redeem(self, signed: object, kind: str) -> Ticket:
        """The ticket that was signed. Raises BadRequest when it is forged, expired, or of another kind."""
        if not isinstance(signed, str) or not signed:
            raise BadRequest("upload_ticket is missing")
        try:
            values = self._signer.loads(signed, max_age=_SECONDS)
        except (BadSignature, UnicodeEncodeError) as exc:  # the latter: half a character, which JSON can spell
            raise BadRequest(f"the upload ticket is not valid: {exc}; look the blob up again") from exc
        if len(values) != 4 or values[0] != kind:
            raise BadRequest(f"the upload ticket is not one for {_WAYS[kind]}; look the blob up again")
        return Ticket(kind=kind, namespace=values[1], digest=values[2], size_bytes=values[3])

    def new_token(self) -> str:
        """What a handshake gives: leave to look blobs up in the older protocol."""
        return self._signer.dumps([_HANDSHAKE])

    def is_token(self, text: str) -> bool:
        """Whether a handshake of the last four hours gave it."""
        try:
            return bool(self._signer.loads(text, max_age=_SECONDS) == [_HANDSHAKE])
        except BadSignature:
            return False


_WAYS = {"inline": "store_inline", "stream": "a PUT to the address that came with it"}

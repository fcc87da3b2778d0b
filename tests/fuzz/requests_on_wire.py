"""Requests as bytes, read and answered by gunicorn's own code, with nothing but the sockets left out."""

import http.client
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from wsgiref.types import WSGIApplication

from gunicorn.config import Config  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.http import RequestParser, wsgi  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # gunicorn has no annotations
from hypothesis import strategies as st

from dist_test.master.server import MAX_REQUEST_LINE

LENGTH = b"@LENGTH@"  # stands for the length of the body, whatever mutations made of that
# Lines of a header, of which some are drawn; the second part is what they may be good for.
LINES: Sequence[bytes] = (
    *(b"Host: 127.0.0.1:8081", b"Host: [::1", b"Host: a b", b"Host: \xff", b"Host: a:99999", b"Host:", b"Host: a_b"),
    *(b"Content-Type: application/json", b"Content-Type: application/json; charset=\xff", b"Content-Type: text/plain"),
    b"Content-Type: application/x-www-form-urlencoded",
    *(b"Content-Type: multipart/form-data; boundary=b", b"Content-Type: multipart/form-data", b"Content-Type: ;;="),
    *(b"Range: bytes=0-1", b"Range: bytes=-0", b"Range: bytes=9-", b"Range: bytes=5-1", b"Range: bytes=0-1,2-3"),
    *(b"Range: bytes=" + b"9" * 5000 + b"-", b"Range: bytes=\xb2-", b"Range: items=0-1", b"Content-Range: bytes 0-1/2"),
    *(b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-For: a, ,10.0.0.1,,", b"X-Forwarded-For: ::ffff:10.0.0.1%eth0"),
    *(
        b"X-Forwarded-For: " + b"1.1.1.1," * 900,
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: [",
        b"Forwarded: for=x",
    ),
    *(
        b"X-Forwarded-Host: a/b?c#d",
        b"X-Forwarded-Host: \xff\xfe",
        b"Origin: http://127.0.0.1:8081",
        b"Origin: http://[",
    ),
    *(
        b"Origin: null",
        b"Sec-Fetch-Site: cross-site",
        b"Accept: text/html",
        b"Accept: */*;q=nan",
        b"User-Agent: Mozilla/",
    ),
    *(b"Authorization: Basic YTpi", b"Authorization: Basic !", b"Authorization: Digest", b'Authorization: Digest a="b'),
    *(b"Authorization: Bearer \xff", b"If-None-Match: *", b"If-Modified-Since: \xff", b"Accept-Encoding: gzip;q=x"),
    *(
        b"If-Range: x",
        b"If-Modified-Since: Sat, 99 Foo 99999 99:99:99 GMT",
        b"Cookie: session=x",
        b"Expect: 100-continue",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Date: x",
        b"Max-Forwards: 0",
        b"X-HTTP-Method-Override: DELETE",
        b"Connection: close",
    ),
)
METHODS = (b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")
VALUES = (
    *("job", "other", "none", "0", "1", "-1", "2", "99999", "9" * 19, "9" * 400, "1e9", "0x1", "1.0", "NaN", "inf", ""),
    *(
        "%00",
        "%ff",
        "%ed%a0%80",
        "%C2%B2",
        "%D9%A1",
        "..",
        "%2e%2e",
        "%2F",
        "a%2Fb",
        "%",
        "%%",
        "+",
        "%0A",
        "%0d%0aA:b",
    ),
    *("stdout", "stderr", "artifacts", "failed", "running", "base64", "text", "a" * 40 + ".0", "a" * 40 + ".99999"),
    *("name", "project", "x" * 300, "%F0%9F%98%80", "'", "%22", "<b>", "a.b", "0.0", "999999999.99999", "2020-01-01"),
    *(
        "slave-1",
        "desc",
        "slowest",
        "x_0.0",
        "1.5_0.0",
        "nan_0.0",
        "_0.0",
        "a_b",
        "%E2%80%AE",
        "task",
        "@1",
        "-inf_0.0",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back. `status` is 0 when nothing did: what was sent was no request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def is_json(self) -> bool:
        return self.headers.get_content_type() == "application/json"


class Wire:
    """An application behind gunicorn's reader of requests and writer of answers."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._config = Config()
        for name, value in (("limit_request_line", MAX_REQUEST_LINE), ("forwarded_allow_ips", "")):
            self._config.set(name, value)

    def send(self, data: bytes, *, peer: str = "127.0.0.1") -> Answer:
        """Send one request; `@LENGTH@` is replaced by the length of what follows the first empty line.

        Raises what the application raises.
        """
        head, separator, body = data.partition(b"\r\n\r\n")
        whole = head.replace(LENGTH, str(len(body)).encode()) + separator + body
        socket = _Socket()
        try:
            request = next(RequestParser(self._config, [whole], (peer, 4000)))
            response, environ = wsgi.create(request, socket, (peer, 4000), ("127.0.0.1", 8081), self._config)
        except (ParseException, OSError, StopIteration):  # gunicorn refuses it by itself
            return Answer(status=0, headers=http.client.HTTPMessage(), body=b"")
        self._answer(environ, response)
        return _read(socket.sent.getvalue(), request.method)

    def _answer(self, environ: dict[str, object], response: wsgi.Response) -> None:
        items = self._application(environ, response.start_response)
        try:
            for item in items:
                response.write(item)
            response.close()
        finally:
            if hasattr(items, "close"):
                items.close()


class _Socket:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent = io.BytesIO()

    def send(self, data: bytes) -> int:
        return self.sent.write(data)

    def sendall(self, data: bytes) -> None:
        self.sent.write(data)

    def makefile(self, *_arguments: object) -> io.BytesIO:
        return io.BytesIO(self.sent.getvalue())


def _read(sent: bytes, method: str) -> Answer:
    socket = _Socket()
    socket.sendall(sent)
    # type: all that it does with a socket is makefile()
    response = http.client.HTTPResponse(socket, method=method)  # type: ignore[arg-type]
    response.begin()
    return Answer(status=response.status, headers=response.headers, body=response.read())


@st.composite
def requests(draw: st.DrawFn, routes: Sequence[str], names: Sequence[str], bodies: st.SearchStrategy[bytes]) -> bytes:
    """Requests for these routes, with values for `<…>` in them, parameters of these names, and these bodies."""
    method, body = draw(st.sampled_from(METHODS)), draw(st.one_of(st.just(b""), bodies))
    path = re.sub(r"<[^>]*>", lambda _: draw(st.sampled_from(VALUES)), draw(st.sampled_from(routes)))
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(VALUES)), max_size=5))
    query = "&".join("=".join(pair) for pair in pairs)
    lines = draw(st.lists(st.sampled_from(LINES), max_size=3))
    is_chunked = draw(st.integers(0, 9)) == 0
    lines.append(b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: " + LENGTH)
    if is_chunked:
        body = b"%x\r\n%s\r\n%s" % (len(body), body, draw(st.sampled_from((b"0\r\n\r\n", b"", b"zz\r\n"))))
    if draw(st.booleans()):
        lines.append(
            b"Content-Type: " + draw(st.sampled_from((b"application/json", b"application/x-www-form-urlencoded")))
        )
    target = f"{path}?{query}" if query else path
    return b"\r\n".join((b"%s %s HTTP/1.1" % (method, target.encode()), *lines, b"", body))

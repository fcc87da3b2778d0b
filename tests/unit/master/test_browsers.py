"""Which requests a browser sent, and which a page of another site made it send."""

import pytest

from dist_test.master.browsers import is_cross_site, is_from_browser

HOST = "master.example.com:8081"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, False, id="a program"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, False, id="our own page"),
        pytest.param({"Sec-Fetch-Site": "none"}, False, id="typed by the user"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, True, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, True, id="a neighbour"),
        pytest.param({"Sec-Fetch-Site": ""}, True, id="nonsense"),
        pytest.param({"Origin": f"http://{HOST}"}, False, id="our origin"),
        pytest.param({"Origin": f"https://{HOST.upper()}"}, False, id="our origin behind a proxy"),
        pytest.param({"Origin": "http://master.example.com"}, True, id="another port"),
        pytest.param({"Origin": "http://evil.example.com"}, True, id="another origin"),
        pytest.param({"Origin": "null"}, True, id="hidden origin"),
        pytest.param({"Origin": "http://[broken"}, True, id="broken origin"),
        pytest.param({"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"}, True, id="they disagree"),
    ],
)
def test_what_another_site_may_have_caused_is_told_apart(headers: dict[str, str], expected: bool) -> None:
    assert is_cross_site(headers, HOST) is expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://master.example.com", "master.example.com"),
        ("http://master:80", "master"),
        ("http://[::1]", "[::1]:80"),
    ],
)
def test_default_ports_need_not_be_said(origin: str, host: str) -> None:
    assert not is_cross_site({"Origin": origin}, host)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Accept": "*/*"}, False, id="curl"),
        pytest.param({"Accept": "application/json"}, False, id="our client"),
        pytest.param({}, False, id="urllib"),
        pytest.param({"Accept": "text/html,application/xhtml+xml"}, True, id="a page is wanted"),
        pytest.param({"Sec-Fetch-Mode": "no-cors"}, True, id="an image"),
        pytest.param({"Origin": "null"}, True, id="an origin"),
        pytest.param({"User-Agent": "Mozilla/5.0 (X11)", "Accept": "image/png,*/*"}, True, id="a picture, plain http"),
    ],
)
def test_browsers_are_told_apart(headers: dict[str, str], expected: bool) -> None:
    assert is_from_browser(headers) is expected

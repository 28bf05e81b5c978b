"""What an examination of an installation tells of the OFD."""

import socket
from contextlib import closing

import pytest
from support.hostile_ofd import answer_of, answering, hostile_ofd, make_authority

from kkt_bridge.cli.checkup.ofd import examine_ofd
from kkt_bridge.clock import SystemClock
from kkt_bridge.settings import OfdSettings
from kkt_bridge.simulators.ofd import OfdSimulator


def examined(url, **settings):
    """Verdict and words of each check, by its name."""
    findings = examine_ofd(OfdSettings(url=url, timeout_s=20, **settings), SystemClock())
    return {finding.check: (finding.verdict, f"{finding.reason}; {finding.advice}") for finding in findings}


def test_an_ofd_that_is_well():
    with OfdSimulator() as ofd:
        findings = examined(ofd.url)
    assert findings["OFD"][0] == "ok"
    assert f"{ofd.url}/ofd/v1/health answers, in " in findings["OFD"][1]


def test_credentials_are_not_shown():
    with answering(answer_of(500)) as ofd:
        verdict, words = examined(ofd.url.replace("//", "//shop:s3cret@"))["OFD"]
    assert verdict == "FAIL"
    assert "s3cret" not in words
    assert "//***@127.0.0.1" in words


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (answer_of(401, b""), "FAIL", "refuses this bridge: 401; renew the name and password in ofd.url"),
        (answer_of(302, b"", Location="http://portal/"), "FAIL", "302 to http://portal/; check ofd.url"),
        (answer_of(200, b"<html>Wi-Fi"), "FAIL", "somebody else answers: 200, but not what an OFD says"),
        (answer_of(429, b""), "warn", "asks to be left alone for a while: 429"),
        (answer_of(404, b""), "warn", "has no health check: 404"),
        (answer_of(503, b"in repair"), "FAIL", "does not answer, or not well: 503 in repair"),
    ],
)
def test_what_the_answer_means_and_what_to_do(answer, verdict, words):
    with answering(answer) as ofd:
        finding = examined(ofd.url)["OFD"]
    assert finding[0] == verdict
    assert words in finding[1]


def test_a_token_that_is_refused_is_named(tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    with OfdSimulator(token="new") as ofd:
        verdict, words = examined(ofd.url, token_file=token)["OFD"]
        assert verdict == "FAIL"
        assert "renew the token in ofd.token_file" in words
        token.write_text("new")
        assert examined(ofd.url, token_file=token)["OFD"][0] == "ok"


def test_nobody_there():
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        findings = examined(f"http://127.0.0.1:{reserved.getsockname()[1]}")
    assert list(findings) == ["OFD"]
    assert findings["OFD"][0] == "FAIL"


def test_without_a_health_check_its_address_is_asked():
    with answering(answer_of(200, b"<html>")) as ofd:
        assert examined(ofd.url, health_path="")["OFD"][0] == "warn"
        assert ofd.heard[0].startswith(b"GET / HTTP/1.1")


@pytest.mark.parametrize(("days", "verdict"), [(30, "ok"), (5, "warn")])
def test_a_certificate_that_ends_soon_is_warned_of(tmp_path, days, verdict):
    authority = make_authority(tmp_path, days)
    with OfdSimulator(tls=authority.pair("server")) as ofd:
        findings = examined(ofd.url, tls={"ca": authority.ca})
    assert findings["OFD"][0] == "ok"
    assert findings["OFD certificate"][0] == verdict


def test_a_certificate_that_is_not_trusted_is_told_with_the_cause(authority):
    with OfdSimulator(tls=authority.pair("server")) as ofd:
        verdict, words = examined(ofd.url)["OFD"]
    assert verdict == "FAIL"
    assert "the OFD's certificate is not trusted: " in words


def test_an_answer_that_never_ends_is_a_finding():
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        ofd.stopping.wait()

    with hostile_ofd(serve) as ofd:
        settings = OfdSettings(url=ofd.url, timeout_s=0.2)
        (finding,) = examine_ofd(settings, SystemClock())
    assert finding.verdict == "FAIL"
    assert "no answer in time" in finding.reason

"""The settings of the way to the OFD: found to be usable at the start, and shown to nobody."""

import pytest

from kkt_bridge.cli.config_warnings import config_warnings
from kkt_bridge.errors import SettingsError
from kkt_bridge.settings import environment_for_children, load_settings

LEAST = """
bridge_id = "store-017"
[journal]
url = "sqlite:////var/lib/kkt-bridge/journal.db"
[[kkt]]
id = "kkt-1"
driver = "virtual"
state = "/var/lib/kkt-bridge/kkt-1.fn"
"""


@pytest.fixture
def load(tmp_path):
    def load_ofd(tls="", **ofd):
        lines = "\n".join(f'{key} = "{value}"' for key, value in ({"url": "https://ofd.example.com"} | ofd).items())
        file = tmp_path / "kkt-bridge.toml"
        file.write_text(f"{LEAST}\n[ofd]\n{lines}\n[ofd.tls]\n{tls}\n", encoding="utf-8")
        return load_settings(file, {})

    return load_ofd


def refusal(load, tls="", **ofd):
    with pytest.raises(SettingsError) as raised:
        load(tls, **ofd)
    return str(raised.value)


def remarks_about_ofd(settings):
    return [remark for remark in config_warnings(settings) if remark.key.startswith("ofd.")]


def test_a_private_authority_a_certificate_and_a_token_are_taken(load, authority, tmp_path):
    token = tmp_path / "token"
    token.write_text("abc.def\n")
    token.chmod(0o600)
    cert, key = authority.pair("client")
    settings = load(
        f'ca = "{authority.ca}"\ncert = "{cert}"\nkey = "{key}"', token_file=token, proxy="http://shop:x@proxy:3128/"
    )
    assert (settings.ofd.tls.cert, settings.ofd.tls.key, settings.ofd.token_file) == (cert, key, token)
    assert remarks_about_ofd(settings) == []


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named(load, authority, name):
    cert, key = authority.pair("client")
    files = {"ca": authority.ca, "cert": cert, "key": key} | {name: "/nowhere/at-all.pem"}
    text = refusal(load, "\n".join(f'{key} = "{value}"' for key, value in files.items()))
    assert f"ofd.tls.{name}: /nowhere/at-all.pem cannot be read" in text


def test_what_is_no_pem_is_named(load, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    assert f"ofd.tls.ca: {file}: expected certificates in PEM form" in refusal(load, f'ca = "{file}"')


def test_a_key_of_another_certificate_is_refused(load, authority):
    cert, key = authority.pair("client")[0], authority.pair("server")[1]
    text = refusal(load, f'cert = "{cert}"\nkey = "{key}"')
    assert "ofd.tls.cert and ofd.tls.key" in text
    assert "mismatch" in text


def test_a_certificate_needs_its_key(load, authority):
    assert "cert and key: expected both or neither" in refusal(load, f'cert = "{authority.pair("client")[0]}"')


@pytest.mark.parametrize("content", ["", " \n", "two words", "kopeck ₽", "a\x00b"])
def test_a_token_file_without_a_token_is_refused(load, tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    text = refusal(load, token_file=file)
    assert f"ofd.token_file: {file}: expected one token" in text
    assert content.strip() == "" or content not in text


@pytest.mark.parametrize(
    "proxy",
    ["proxy:3128", "https://proxy", "socks5://proxy", "http://", "http://a b", "http://proxy/path", "http://p:x"],
)
def test_a_proxy_that_is_none_is_refused(load, proxy):
    assert "ofd.proxy: expected an address such as" in refusal(load, proxy=proxy)


def test_credentials_in_an_address_are_shown_nowhere(load):
    settings = load(url="https://shop:s3cret@ofd.example.com/x", proxy="http://shop:s3cret@proxy:3128")
    assert settings.ofd.shown_url == "https://***@ofd.example.com/x"
    assert "s3cret" not in repr(settings.ofd.proxy)
    assert "s3cret" not in refusal(load, url="ftp://shop:s3cret@ofd.example.com")
    assert "s3cret" not in refusal(load, proxy="ftp://shop:s3cret@proxy")


def test_what_others_may_read_is_remarked_upon(load, authority, tmp_path):
    token = tmp_path / "token"
    token.write_text("abc")
    token.chmod(0o644)
    (remark,) = remarks_about_ofd(load(token_file=token))
    assert remark.key == "ofd.token_file"
    assert str(token) in remark.message
    remarks = remarks_about_ofd(load(f'ca = "{authority.ca}"', url="http://shop:x@ofd.example.com", token_file=token))
    assert [remark.key for remark in remarks] == ["ofd.token_file", "ofd.url", "ofd.tls"]
    assert "x@" not in str(remarks)


def test_children_see_none_of_our_variables(monkeypatch):
    monkeypatch.setenv("KKT_BRIDGE__MQTT__PASSWORD", "a-secret")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    environment = environment_for_children()
    assert environment["SOMETHING_ELSE"] == "kept"
    assert not [name for name in environment if name.startswith("KKT_BRIDGE__")]

import pytest

from pyfix.access.client_lists import ClientLists, Standing
from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment


def lists(own=("192.0.2.9",), **parameters):
    defaults = {"mynetworks": "192.0.2.0/28 [2001:db8::]/32"}
    conf = Config("/", [Assignment(k, v, "main.cf", 1) for k, v in (defaults | parameters).items()])
    return ClientLists(conf, own)


@pytest.mark.parametrize(
    ("address", "standing"),
    [
        pytest.param("192.0.2.1", Standing(trusted=True, lenient=True, counted=False, local=False), id="neighbour"),
        pytest.param("2001:db8::1", Standing(trusted=True, lenient=True, counted=False, local=False), id="IPv6"),
        pytest.param("192.0.2.9", Standing(trusted=True, lenient=True, counted=False, local=True), id="this host"),
        pytest.param("198.51.100.1", Standing(trusted=False, lenient=False, counted=True, local=False), id="stranger"),
        pytest.param("unknown", Standing(trusted=False, lenient=False, counted=True, local=False), id="no address"),
    ],
)
def test_by_default_all_follow_mynetworks(address, standing):
    assert lists().standing(address, "unknown") == standing


def test_each_list_decides_one_thing():
    each = lists(
        smtpd_forbid_bare_newline_exclusions="",
        smtpd_client_event_limit_exceptions="198.51.100.1",
        local_header_rewrite_clients="permit_mynetworks",
        smtpd_authorized_verp_clients="198.51.100.2",
    )
    assert each.standing("192.0.2.1", "x") == Standing(trusted=True, lenient=False, counted=True, local=True)
    assert each.standing("198.51.100.2", "x").verp
    assert each.standing("198.51.100.1", "x") == Standing(trusted=False, lenient=False, counted=False, local=False)


def test_unknown_words_are_errors():
    with pytest.raises(ConfigError, match="permit_tls_clientcerts is not implemented"):
        lists(local_header_rewrite_clients="permit_tls_clientcerts")


def test_a_table_is_asked_each_time(tmp_path):
    table = tmp_path / "peers"
    table.write_text("192.0.2.1 OK\n")
    of_table = lists(mynetworks=f"texthash:{table}")
    find = of_table._mynetworks.matches
    asked = []
    of_table._mynetworks.matches = lambda client: asked.append(client.text) or find(client)
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        of_table.standing(address, "unknown")
    assert asked == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("networks", ["192.0.2.0/28", "!192.0.2.9 [2001:db8::]/32 .example.org"])
def test_what_needs_no_table_is_found_out_once(networks):
    fixed = lists(mynetworks=networks)
    first = fixed.standing("192.0.2.1", "a.example.org")
    assert fixed.standing("192.0.2.1", "a.example.org") is first
    assert fixed.standing("192.0.2.1", "b.example.com") is not first

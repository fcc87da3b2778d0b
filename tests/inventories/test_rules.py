"""What the check of an inventory finds, rule by rule, and in which words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inventories import addresses, credentials, shape, values
from inventories.model import (
    ROLE_OF_GROUP,
    Catalog,
    Entry,
    GroupUse,
    Host,
    Inventory,
    Option,
    Place,
    Rule,
    Unresolved,
)

HOSTS = Path("hosts.yml")
SETTINGS = Path("settings.yml")
OPTIONS = (
    Option(role="master", name="master_port", type="int"),
    Option(role="master", name="master_allowed_networks", type="list", elements="str"),
    Option(role="master", name="master_accounts", type="dict"),
    Option(role="slave", name="slave_slots", type="int"),
    Option(role="slave", name="slave_metadata", type="bool"),
    Option(role="slave", name="slave_container_engine", choices=("", "docker", "podman")),
    Option(role="slave", name="slave_user"),
    Option(role="backup", name="backup_time"),
    *(Option(role=role, name=f"{role}_user") for role in ("base", "mysql", "beanstalkd", "object_store", "isolate")),
)
CATALOG = Catalog(
    options={option.name: option for option in OPTIONS}, wired=frozenset(("public_name", "cluster_networks"))
)
SERVER_GROUPS = ("database", "queue", "object_store", "isolate_servers", "masters", "backup")


def a_host(name: str, *groups: str, **values: Any) -> Host:
    """A host of the cluster on line 9, or on `line`; `groups` beside `cluster` and `all`."""
    place = Place(path=HOSTS, line=values.pop("line", 9))
    return Host(name=name, place=place, groups=frozenset((*groups, "cluster", "all")), values=values)


def an_entry(name: str, value: Any = "x", scope: str = "cluster", line: int = 3, **more: Any) -> Entry:
    return Entry(name=name, value=value, place=Place(path=SETTINGS, line=line), scope=scope, **more)


def an_inventory(
    *hosts: Host, entries: Sequence[Entry] = (), uses: Sequence[GroupUse] = (), discovers_slaves: bool = False
) -> Inventory:
    return Inventory(
        directory=Path("inventories/mine"),
        hosts=hosts,
        uses=(*uses, *(a_use(name) for name in ROLE_OF_GROUP)),
        entries=tuple(entries),
        order=("all", "cluster", *SERVER_GROUPS, "slaves"),
        catalog=CATALOG,
        discovers_slaves=discovers_slaves,
    )


def a_use(name: str, parent: str | None = "cluster", line: int = 2, *, is_file: bool = False) -> GroupUse:
    path = Path(f"group_vars/{name}.yml") if is_file else HOSTS
    return GroupUse(name=name, place=Place(path=path, line=line), parent=parent, is_file=is_file)


def found(rule: Rule, inventory: Inventory) -> list[str]:
    return [str(mistake).replace(f"{inventory.directory}/", "") for mistake in rule(inventory)]


GOOD_PASSWORDS = {
    "mysql_owner_password": "correct horse battery",
    "mysql_master_password": "staple of seven hills",
    "mysql_slave_password": "a river in the evening",
    "object_store_access_key": "store",
    "object_store_secret_key": "nine blue lanterns",
    "isolate_token_key": "under the old bridge",
    "master_accounts": {"slave": "tomorrow comes early"},
    "master_mysql_host": "10.0.0.1",
    "slave_mysql_host": "10.0.0.1",
}


def test_a_good_inventory_has_no_mistakes() -> None:
    server = a_host("server", *SERVER_GROUPS, ansible_host="10.0.0.1", cluster_address="10.0.0.1", **GOOD_PASSWORDS)
    slave = a_host(
        "slave", "slaves", ansible_host="10.0.0.2", slave_user="slave", slave_password="tomorrow comes early"
    )
    inventory = an_inventory(server, slave)
    rules = (*shape.RULES, *values.RULES, *addresses.RULES, *credentials.RULES)
    assert [str(mistake) for rule in rules for mistake in rule(inventory)] == []


@pytest.mark.parametrize(
    ("uses", "hosts", "expected"),
    [
        pytest.param(
            [a_use("mastres")], [],
            ["hosts.yml:2: mastres: this group gives its hosts no role; did you mean masters?"],
            id="misspelt",
        ),
        pytest.param(
            [a_use("europe")], [a_host("one", "europe")],
            ["hosts.yml:2: europe: this group gives its hosts no role; put it below one of "
             "cluster, database, queue, object_store, isolate_servers, masters, autoscaler, slaves, backup"],
            id="without a role",
        ),
        pytest.param([a_use("big", parent="slaves")], [a_host("one", "big", "slaves")], [], id="below slaves"),
        pytest.param([a_use("europe")], [a_host("one", "europe", "slaves")], [], id="for hosts that have roles"),
    ],
)  # fmt: skip
def test_a_group_without_a_role_is_named(uses: list[GroupUse], hosts: list[Host], expected: list[str]) -> None:
    assert found(shape.groups_are_known, an_inventory(*hosts, uses=uses)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slave", ["group_vars/slave.yml:2: slave: hosts.yml has no such group; did you mean slaves?"]),
        (
            "europe",
            ["group_vars/europe.yml:2: europe: hosts.yml has no such group; remove it, or name the group in hosts.yml"],
        ),
        ("slaves", []),
    ],
)
def test_a_file_for_no_group_is_named(name: str, expected: list[str]) -> None:
    assert found(shape.group_files_name_groups, an_inventory(uses=[a_use(name, is_file=True)])) == expected


def test_a_file_for_no_host_is_named() -> None:
    entry = an_entry("slave_slots", scope="slaev1", is_host=True)
    inventory = an_inventory(a_host("slave1", "slaves"), entries=[entry])
    expected = ["settings.yml:3: slaev1: hosts.yml has no such host; did you mean slave1?"]
    assert found(shape.host_files_name_hosts, inventory) == expected


def test_a_file_for_a_host_that_may_be_discovered_is_fine() -> None:
    entry = an_entry("slave_slots", scope="group-a-x7f2", is_host=True)
    assert found(shape.host_files_name_hosts, an_inventory(entries=[entry], discovers_slaves=True)) == []


def test_values_for_all_are_refused() -> None:
    assert found(shape.no_values_for_all, an_inventory(uses=[a_use("all", is_file=True)])) == [
        "group_vars/all.yml:2: all: without our ansible.cfg, playbooks/group_vars/all.yml wins over values for the "
        "group all; put them into group_vars/cluster/, which always wins"
    ]


def test_a_host_outside_of_the_cluster_is_named() -> None:
    host = replace(a_host("lonely"), groups=frozenset(("all", "masters")))
    expected = ["hosts.yml:9: lonely: the host is not in the group cluster; name its group below children of cluster"]
    assert found(shape.every_host_is_in_the_cluster, an_inventory(host)) == expected


def test_a_host_that_is_misspelt_in_its_group_is_named() -> None:
    hosts = a_host("slave2"), a_host("slvae2", "slaves", line=56), a_host("slave1", "slaves")
    inventory = an_inventory(
        *hosts, entries=[an_entry("ansible_host", scope=host, is_host=True) for host in ("slave1", "slave2")]
    )
    assert found(shape.hosts_are_not_misspelt, inventory) == [
        "hosts.yml:56: slvae2: nothing is said about this host, and slave2 is in no group; did you mean slave2?"
    ]


def test_a_host_without_a_role_is_warned_of() -> None:
    assert found(shape.every_host_is_in_the_cluster, an_inventory(a_host("idle"))) == [
        "hosts.yml:9: warning: idle: the host has no role; "
        "add it to one of database, queue, object_store, isolate_servers, masters, autoscaler, slaves, backup"
    ]


@pytest.mark.parametrize(
    ("group", "wrong"),
    [
        ("masters", "the group has no host, no master would take jobs"),
        ("database", "the group has no host, no MySQL would hold the jobs"),
        ("queue", "the group has no host, no beanstalkd would hold the queue"),
        ("isolate_servers", "the group has no host, no isolate server would hold the tests' files"),
        ("slaves", "the group has no host, no slave would run tests"),
    ],
)
def test_a_group_that_needs_a_host_is_named(group: str, wrong: str) -> None:
    others = [name for name in (*SERVER_GROUPS, "slaves") if name != group]
    expected = [f"hosts.yml:2: {group}: {wrong}; name a host below it"]
    assert found(shape.needed_groups_have_hosts, an_inventory(a_host("one", *others))) == expected


def test_slaves_that_are_discovered_need_no_host() -> None:
    inventory = an_inventory(a_host("one", *SERVER_GROUPS), discovers_slaves=True)
    assert found(shape.needed_groups_have_hosts, inventory) == []


NO_S3 = (
    "hosts.yml:2: s3_access_key: no host is in the group object_store and no S3 account is named: logs would have no "
    "place; name a host, or set s3_access_key, s3_secret_key and, for others than Amazon, s3_endpoint_url"
)


@pytest.mark.parametrize(
    ("groups", "names", "expected"),
    [
        pytest.param(["masters"], [], [NO_S3], id="nothing"),
        pytest.param(["masters", "object_store"], [], [], id="an object store"),
        pytest.param(["masters"], ["s3_access_key", "s3_secret_key"], [], id="an account"),
    ],
)
def test_a_cluster_without_s3_is_named(groups: list[str], names: list[str], expected: list[str]) -> None:
    inventory = an_inventory(a_host("one", *groups), entries=[an_entry(name) for name in names])
    assert found(shape.something_serves_s3, inventory) == expected


def test_two_object_stores_are_named() -> None:
    inventory = an_inventory(a_host("one", "object_store"), a_host("two", "object_store", line=12))
    assert found(shape.one_host_only, inventory) == [
        "hosts.yml:12: object_store: one and two would each keep other objects; keep one of them in the group"
    ]


@pytest.mark.parametrize(("group", "server"), [("database", "mysql"), ("queue", "beanstalkd")])
def test_two_databases_or_queues_are_named(group: str, server: str) -> None:
    inventory = an_inventory(a_host("one", group), a_host("two", group, line=12), a_host("three", "masters"))
    assert found(shape.all_use_one, inventory) == [
        f"hosts.yml:12: {group}: one and two are all in the group, but masters and slaves share one; "
        f"keep one, or say which in master_{server}_host and slave_{server}_host"
    ]


def test_two_databases_are_fine_once_it_is_said_which_one_is_used() -> None:
    master = a_host("three", "masters", "slaves", master_mysql_host="10.0.0.1", slave_mysql_host="10.0.0.1")
    entries = [an_entry("master_mysql_host"), an_entry("slave_mysql_host")]
    inventory = an_inventory(a_host("one", "database"), a_host("two", "database"), master, entries=entries)
    assert found(shape.all_use_one, inventory) == []


def test_two_masters_with_a_database_each_are_named() -> None:
    masters = [a_host(f"m{n}", "masters", master_mysql_host=f"10.0.0.{n}", master_mysql_port=3306) for n in (1, 2)]
    entry = an_entry("master_mysql_host", scope="m2", is_host=True, line=5)
    assert found(shape.all_use_one, an_inventory(*masters, entries=[entry])) == [
        "settings.yml:5: master_mysql_host: m2 would use the database 10.0.0.2 3306, but m1 10.0.0.1 3306; "
        "masters and slaves share one: set it once, in group_vars/cluster/"
    ]


def test_loopback_on_the_only_host_is_the_same_database() -> None:
    used = {"master_mysql_host": "127.0.0.1", "slave_mysql_host": "10.0.0.1"}
    host = a_host("one", "masters", "slaves", cluster_address="10.0.0.1", **used)
    assert found(shape.all_use_one, an_inventory(host)) == []


def test_isolate_servers_with_a_disk_each_are_named() -> None:
    hosts = [a_host(f"i{n}", "isolate_servers", isolate_store=f"{kind}:x") for n, kind in ((1, "s3"), (2, "disk"))]
    assert found(shape.isolate_servers_share_a_store, an_inventory(*hosts)) == [
        "hosts.yml:9: isolate_store: i2 would keep blobs on its own disk, where the other isolate servers cannot see "
        "them; set s3:BUCKET for all of them, or keep one isolate server"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("master_prot", "no role has such a variable; did you mean master_port?"),
        ("colour", "no role has such a variable; docs/reference/inventory.md lists all"),
        ("ansible_usr", "no role has such a variable; did you mean ansible_user?"),
        ("public_nam", "no role has such a variable; did you mean public_name?"),
    ],
)
def test_an_unknown_variable_is_named(name: str, expected: str) -> None:
    inventory = an_inventory(entries=[an_entry(name)])
    assert found(values.variables_are_known, inventory) == [f"settings.yml:3: {name}: {expected}"]


@pytest.mark.parametrize("name", ["master_port", "ansible_host", "cluster_networks", "own"])
def test_known_variables_are_fine_and_own_ones_that_others_speak_of(name: str) -> None:
    entries = [an_entry(name), an_entry("master_port", "{{ own | int }}")]
    assert found(values.variables_are_known, an_inventory(entries=entries)) == []


def test_an_expression_that_cannot_be_computed_is_named() -> None:
    host = a_host("one", "masters", master_port=Unresolved(reason="'prot' is undefined"))
    assert found(values.values_can_be_computed, an_inventory(host, entries=[an_entry("master_port")])) == [
        "settings.yml:3: master_port: no value ('prot' is undefined); mend the expression, or define what it speaks of"
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("slave_slots", "two", "'two' is not a whole number; write a whole number"),
        ("slave_slots", -1, "-1 is below 0; write a number that is not"),
        ("slave_slots", True, "true is not a whole number; write a whole number"),
        ("slave_slots", None, "the value is empty; write a whole number, or remove the line for the default"),
        ("slave_metadata", "false", "'false' is not true or false; write true or false"),
        ("master_port", 70000, "70000 is no port; write a whole number from 1 to 65535"),
        ("master_allowed_networks", "10.0.0.0/8", "'10.0.0.0/8' is not a list; "
         "write a list, `- value` lines below it"),
        ("master_allowed_networks", [["10.0.0.0/8"]], "a list is no str; each element has to be a single text; "
         "quote it where YAML reads something else"),
        ("master_accounts", ["ada"], "a list is not a mapping; write a mapping, "
         "`name: value` lines below it"),
        ("slave_container_engine", "dokcer", "'dokcer' is none of the choices; write one of '', 'docker', 'podman'"),
        ("backup_time", {"hour": 3}, "a mapping is not a single text; write a single text; quote it where YAML reads "
         "something else"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_kind_is_named(name: str, value: Any, expected: str) -> None:
    inventory = an_inventory(a_host("one", "slaves", **{name: value}), entries=[an_entry(name, value)])
    assert found(values.values_are_of_their_kind, inventory) == [f"settings.yml:3: {name}: {expected}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slave_slots", 2), ("slave_slots", "2"), ("slave_metadata", False), ("master_allowed_networks", []),
        ("master_accounts", {}), ("slave_container_engine", "podman"), ("backup_time", "03:30"),
    ],
)  # fmt: skip
def test_a_value_of_the_right_kind_is_fine(name: str, value: Any) -> None:
    inventory = an_inventory(a_host("one", "slaves", **{name: value}), entries=[an_entry(name, value)])
    assert found(values.values_are_of_their_kind, inventory) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("public_name", "https://farm.test/", "write a name or an address alone, without https://, port or path"),
        ("public_name", "farm.test:443", "write a name or an address alone, without https://, port or path"),
        ("isolate_store", "disk:blobs", "write disk:/absolute/path or s3:BUCKET"),
        ("s3_results_bucket", "My_Bucket", "write 3 to 63 of a-z, 0-9, - and ."),
        ("mysql_buffer_pool", "4 GB", "write a number and K, M, G or T, such as 4G"),
        ("slave_slots", 0, "write a whole number from 1 to 256"),
        ("slave_slots", 257, "write a whole number from 1 to 256"),
    ],
)
def test_a_text_that_its_service_would_refuse_is_named(name: str, value: Any, expected: str) -> None:
    inventory = an_inventory(a_host("one", "slaves", **{name: value}), entries=[an_entry(name, value)])
    shown = f"'{value}'" if isinstance(value, str) else value
    assert found(values.values_have_their_form, inventory) == [
        f"settings.yml:3: {name}: {shown} will not do; {expected}"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public_name", "farm.test"), ("public_name", "localhost"), ("public_name", "10.0.0.1"),
        ("public_name", "fd00::1"), ("isolate_store", "disk:/srv/blobs"), ("isolate_store", "s3:dist-test-blobs"),
        ("mysql_buffer_pool", "64M"), ("slave_slots", 256), ("slave_slots", "4"), ("slave_slots", "four"),
    ],
)  # fmt: skip
def test_a_text_that_its_service_takes_is_fine(name: str, value: Any) -> None:
    inventory = an_inventory(a_host("one", "slaves", **{name: value}), entries=[an_entry(name, value)])
    assert found(values.values_have_their_form, inventory) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ({"master_tls_certificate": "/nowhere/c.pem", "master_tls_key": __file__},
         "master_tls_certificate: there is no file /nowhere/c.pem"),
        ({"master_tls_certificate": __file__}, "master_tls_key: the certificate and its key come together"),
    ],
)  # fmt: skip
def test_a_missing_certificate_is_named(paths: Mapping[str, str], expected: str) -> None:
    assert found(values.files_exist, an_inventory(a_host("one", "masters", **paths))) == [
        f"hosts.yml:9: {expected}; name a PEM file on this machine, or remove both for a self-signed certificate"
    ]


@pytest.mark.parametrize("name", ["ansible_host", "cluster_address"])
def test_an_address_of_two_hosts_is_named(name: str) -> None:
    hosts = [a_host("one", **{name: "10.0.0.1"}), a_host("two", line=12, **{name: "10.0.0.1"})]
    assert found(addresses.addresses_are_distinct, an_inventory(*hosts)) == [
        f"hosts.yml:12: {name}: two has the address 10.0.0.1 of one; give each host its own"
    ]


def test_one_address_with_an_ssh_port_for_each_host_is_fine() -> None:
    hosts = [a_host(f"h{port}", ansible_host="10.0.0.1", ansible_port=port) for port in (2201, 2202)]
    assert found(addresses.addresses_are_distinct, an_inventory(*hosts)) == []


def test_a_loopback_address_is_named_when_there_are_other_hosts() -> None:
    hosts = [a_host("one", cluster_address="127.0.0.1"), a_host("two", cluster_address="10.0.0.2")]
    assert found(addresses.hosts_can_reach_each_other, an_inventory(*hosts)) == [
        "hosts.yml:9: cluster_address: no other host can reach one as 127.0.0.1; "
        "write its address in the cluster's network"
    ]
    assert found(addresses.hosts_can_reach_each_other, an_inventory(hosts[0])) == []


@pytest.mark.parametrize(
    "value",
    [
        "192.0.2.11", "198.51.100.0/24", "203.0.113.7", "2001:db8::1", "dist-test.example.com", "example.org",
        "http://192.0.2.13:8333", "example-project",
    ],
)  # fmt: skip
def test_what_is_left_of_the_example_is_named(value: str) -> None:
    assert found(addresses.nothing_is_left_of_the_example, an_inventory(entries=[an_entry("any", [value])])) == [
        f"settings.yml:3: any: {value} comes from the example and exists nowhere; write your own"
    ]


@pytest.mark.parametrize("value", ["10.0.0.1", "0.0.0.0/0", "counterexample.com", "an example", "dist-test", 7, None])
def test_other_values_do_not_count_as_the_example(value: Any) -> None:
    assert not addresses.is_from_example(value)


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        (
            {"ansible_user": "ada"},
            ["hosts.yml:9: ansible_user: ada would set up one without being root there; "
             "write ansible_become: true beside it, for sudo"],
        ),
        ({"ansible_user": "ada", "ansible_become": True}, []),
        ({"ansible_user": "root"}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_a_login_that_does_not_become_root_is_named(login: dict[str, Any], expected: list[str]) -> None:
    assert found(addresses.logins_become_root, an_inventory(a_host("one", "slaves", **login))) == expected


def test_networks_that_are_no_list_are_named() -> None:
    host = a_host("one", cluster_networks="10.0.0.0/8", base_trusted_networks="10.0.0.0/8")
    inventory = an_inventory(host, entries=[an_entry("cluster_networks", "10.0.0.0/8")])
    assert found(addresses.networks_are_networks, inventory) == [
        "settings.yml:3: cluster_networks: it is no list; write a list, `- value` lines below it"
    ]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 has an address of a host, its network is 10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/33 is no network"),
        ("local", "local is no network"),
    ],
)
def test_a_wrong_network_is_named(value: str, wrong: str) -> None:
    host = a_host("one", cluster_networks=["10.0.0.0/8", value])
    assert found(addresses.networks_are_networks, an_inventory(host)) == [
        f"hosts.yml:9: cluster_networks: {wrong}; "
        "write ADDRESS/BITS with nothing but zeros after the first BITS, such as 10.20.0.0/16"
    ]


def test_submitting_from_everywhere_is_warned_of() -> None:
    host = a_host("one", "masters", master_allowed_networks=["0.0.0.0/0"])
    assert found(addresses.networks_are_not_the_world, an_inventory(host)) == [
        "hosts.yml:9: warning: master_allowed_networks: everybody who reaches the master may submit without a "
        "password; name your own networks"
    ]


@pytest.mark.parametrize(
    ("values", "is_named"),
    [
        ({"base_firewall": True, "base_trusted_networks": []}, True),
        ({"base_firewall": False, "base_trusted_networks": []}, False),
        ({"base_firewall": True, "base_trusted_networks": ["10.0.0.0/24"]}, False),
    ],
)
def test_hosts_that_would_shut_each_other_out_are_named(values: dict[str, Any], is_named: bool) -> None:
    alone, other = a_host("one", **values), a_host("two", **values)
    expected = (
        "hosts.yml:2: cluster_networks: it is empty, so the firewall of one keeps the other hosts out; "
        "list the networks of the cluster's hosts in group_vars/cluster/"
    )
    assert found(addresses.hosts_have_networks, an_inventory(alone, other)) == [expected] * is_named
    assert found(addresses.hosts_have_networks, an_inventory(alone)) == []


def test_a_host_outside_of_the_clusters_networks_is_named() -> None:
    host = a_host("one", cluster_address="10.9.0.1", cluster_networks=["10.0.0.0/24"])
    assert found(addresses.hosts_are_in_their_networks, an_inventory(host)) == [
        "hosts.yml:9: cluster_address: 10.9.0.1 of one is in none of cluster_networks, so firewalls drop it; "
        "add its network to cluster_networks"
    ]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ({"isolate_port": 8081, "master_port": 8081},
         ["hosts.yml:9: master_port: isolate_port of one is port 8081 too; choose another port for one of them"]),
        ({"master_port": 443},
         ["hosts.yml:9: master_port: master's nginx of one is port 443 too; choose another port for one of them"]),
        ({"isolate_port": 22},
         ["hosts.yml:9: isolate_port: SSH of one is port 22 too; choose another port for one of them"]),
        ({"isolate_port": 1, "isolate_bind_address": "10.0.0.1", "master_port": 1, "master_bind_address": "127.0.0.1"},
         []),
        ({"isolate_port": 4242, "master_port": 8081}, []),
    ],
    ids=["two roles", "nginx", "ssh", "two addresses", "different"],
)  # fmt: skip
def test_a_port_of_two_services_is_named(ports: Mapping[str, Any], expected: list[str]) -> None:
    host = a_host("one", "isolate_servers", "masters", **ports)
    assert found(addresses.ports_do_not_clash, an_inventory(host)) == expected


GENERATE = "run `.venv/bin/python -m inventories.passwords mine`, which writes random ones"


@pytest.mark.parametrize(
    ("password", "wrong"),
    [
        ("", "it has no value"),
        (None, "it has no value"),
        ("short", "it has 5 characters, fewer than 12"),
        ("please-changeme-soon", "it has a word in it that is guessed first"),
        ("an_owner_of_all", "it is the name of its user"),
        ("aaaaaaaaaaaaaab", "it repeats a few characters"),
        ("staple of seven hills", "it is the same as mysql_master_password"),
    ],
)
def test_a_weak_password_is_named_and_not_shown(password: str | None, wrong: str) -> None:
    passwords = {**GOOD_PASSWORDS, "mysql_slave_password": password, "mysql_slave_user": "an_owner_of_all"}
    inventory = an_inventory(a_host("one", "database", **passwords))
    mistakes = [line for rule in credentials.RULES for line in found(rule, inventory)]
    assert mistakes == [f"hosts.yml:9: mysql_slave_password: {wrong}; {GENERATE}"]


def test_weak_passwords_of_people_are_named() -> None:
    inventory = an_inventory(a_host("one", "masters", master_accounts={"ada": "ada"}))
    expected = [f"hosts.yml:9: master_accounts.ada: it is the name of its user; {GENERATE}"]
    assert found(credentials.passwords_are_strong, inventory) == expected


def test_a_slave_without_an_account_is_named() -> None:
    master = a_host("one", "masters", master_accounts={"ada": "nine blue lanterns"})
    slave = a_host("two", "slaves", slave_user="slave", slave_password="under the old bridge")
    assert found(credentials.slaves_have_an_account, an_inventory(master, slave)) == [
        "hosts.yml:9: slave_user: master_accounts has no slave with this password, so no slave could ask for a retry; "
        "make them agree"
    ]


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/24"]], ids=["from nowhere", "from somewhere"])
def test_slaves_that_may_not_submit_retries_are_warned_of(networks: list[str]) -> None:
    master = a_host("one", "masters", master_accounts={}, master_allowed_networks=networks)
    expected = (
        "hosts.yml:9: warning: slave_user: slaves have no account, and master_allowed_networks is empty: "
        "their retries would come late; name one of master_accounts"
    )
    inventory = an_inventory(master, a_host("two", "slaves", slave_user=""))
    assert found(credentials.slaves_have_an_account, inventory) == [expected] * (not networks)


def test_the_value_that_wins_is_the_one_that_is_blamed() -> None:
    host = a_host("one", "slaves")
    entries = [
        an_entry("slave_slots", scope="one", is_host=True, line=7),
        an_entry("slave_slots", scope="slaves", line=5),
        an_entry("slave_slots", scope="cluster", line=3),
    ]
    for strongest in (7, 5, 3):
        assert an_inventory(host, entries=entries).place_for(host, "slave_slots").line == strongest
        entries.pop(0)
    assert an_inventory(host, entries=entries).place_for(host, "slave_slots") == host.place

"""The resolver: Ansible's values and texts, for a program that is not Ansible."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inventories.cluster import ROOT, Cluster
from tests.roles.checkout import Checkout, run


def _port(cluster: Cluster, host: str) -> Any:
    return cluster.hosts[host].roles["shop"].vars["shop_port"]


# From the weakest to the strongest.
PLACES = (
    "roles/shop/defaults/main.yml",
    "playbooks/group_vars/all.yml",
    "inventory/group_vars/all.yml",
    "inventory/hosts.yml",
    "inventory/group_vars/shops.yml",
    "inventory/host_vars/one.yml",
)
_SPECS = json.dumps(
    {"argument_specs": {"main": {"options": {f"shop_{number}": {} for number in range(1, len(PLACES) + 1)}}}}
)


def test_the_more_specific_place_wins(checkout: Checkout) -> None:
    checkout.put("roles/shop/meta/argument_specs.yml", _SPECS)
    for strength, name in enumerate(PLACES):
        # The variable N is set in the first N places.
        values = {f"shop_{number}": name for number in range(strength + 1, len(PLACES) + 1)}
        checkout.put(name, json.dumps(_in_hosts_file(values) if name.endswith("hosts.yml") else values))

    found = checkout.resolve().hosts["one"].roles["shop"].vars

    assert found == {f"shop_{number}": PLACES[number - 1] for number in range(1, len(PLACES) + 1)}


def _in_hosts_file(values: dict[str, str]) -> dict[str, Any]:
    return {"shops": {"hosts": {"one": None}, "vars": values}}


def test_a_value_for_one_host_leaves_the_others_alone(checkout: Checkout) -> None:
    checkout.put("inventory/host_vars/one.yml", "shop_port: 81\n")

    cluster = checkout.resolve()

    assert (_port(cluster, "one"), _port(cluster, "two")) == (81, 80)


def test_a_value_may_refer_to_other_hosts_and_use_lookups(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_NAME", "corner")
    checkout.put("inventory/host_vars/two.yml", "address: 192.0.2.2\n")
    checkout.put(
        "inventory/group_vars/shops.yml",
        """\
        shop_names:
          - "{{ hostvars[groups['shops'][1]].address }}"
          - "{{ lookup('ansible.builtin.env', 'SHOP_NAME') }}"
        """,
    )

    names = checkout.resolve().hosts["one"].roles["shop"].vars["shop_names"]

    assert names == ["192.0.2.2", "corner"]


def test_a_host_has_only_the_roles_of_its_groups(checkout: Checkout) -> None:
    checkout.put("inventory/hosts.yml", "shops: {hosts: {one: }}\nstores: {hosts: {two: }}\n")

    assert {name: list(host.roles) for name, host in checkout.resolve().hosts.items()} == {"one": ["shop"], "two": []}


def test_a_template_is_rendered_only_for_the_hosts_of_its_role(checkout: Checkout) -> None:
    checkout.put("inventory/hosts.yml", "shops: {hosts: {one: {street: Main}}}\nstores: {hosts: {two: }}\n")
    checkout.put("roles/shop/templates/sign.j2", "{{ street }}\n")

    cluster = checkout.resolve()

    assert cluster.hosts["one"].roles["shop"].templates == {"sign.j2": "Main\n"}


MISTAKES = {
    "an undefined variable in a value": (
        "inventory/group_vars/shops.yml",
        'shop_port: "{{ nobody }}"\n',
        ("host one", "role shop", "variable shop_port", "'nobody' is undefined", "group_vars/shops.yml:1"),
    ),
    "an undefined variable in a template": (
        "roles/shop/templates/sign.j2",
        "{{ nobody }}\n",
        ("host one", "role shop", "roles/shop/templates/sign.j2", "'nobody' is undefined"),
    ),
    "a template that is no Jinja": (
        "roles/shop/templates/sign.j2",
        "{% if %}\n",
        ("host one", "role shop", "roles/shop/templates/sign.j2"),
    ),
    "a value of another type": (
        "inventory/host_vars/two.yml",
        "shop_port: eighty\n",
        ("host two", "role shop", "shop_port", "int"),
    ),
    "a file that is no YAML": ("inventory/host_vars/two.yml", "shop_port: [\n", ("host_vars/two.yml",)),
    "an inventory without hosts": ("inventory/hosts.yml", "shops: {}\n", ("inventory/hosts.yml", "no hosts")),
    "a connection that pyinfra does not know": (
        "inventory/host_vars/one.yml",
        "ansible_connection: winrm\n",
        ("host one", "ansible_connection is winrm"),
    ),
    "an argument of ssh that pyinfra does not know": (
        "inventory/host_vars/one.yml",
        "ansible_ssh_common_args: -o ProxyJump=door\n",
        ("host one", "ProxyJump=door", "ansible_ssh_common_args"),
    ),
}


@pytest.mark.parametrize(("name", "text", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_in_one_line(checkout: Checkout, name: str, text: str, words: tuple[str, ...]) -> None:
    checkout.put(name, text)

    done = checkout.try_to_resolve()

    assert (done.returncode, done.stdout) == (1, "")
    assert [word for word in words if word not in done.stderr] == []
    assert done.stderr.startswith("inventories: ")
    assert done.stderr.count("\n") == 1


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    done = run("inventories.resolver", str(tmp_path / "nowhere"))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("inventories: there is no ")
    assert "nowhere" in done.stderr


def test_ssh_is_described_in_the_words_of_pyinfra(checkout: Checkout) -> None:
    checkout.put(
        "inventory/host_vars/one.yml",
        """\
        ansible_host: 192.0.2.1
        ansible_port: 2222
        ansible_user: ops
        ansible_become: true
        key_dir: /keys
        ansible_ssh_private_key_file: "{{ key_dir }}/ops"
        ansible_ssh_common_args: -F /etc/door -o UserKnownHostsFile=/etc/known -oStrictHostKeyChecking=yes
        """,
    )

    assert checkout.resolve().hosts["one"].connection == {
        "ssh_hostname": "192.0.2.1",
        "ssh_port": 2222,
        "ssh_user": "ops",
        "ssh_key": "/keys/ops",
        "ssh_config_file": "/etc/door",
        "ssh_known_hosts_file": "/etc/known",
        "ssh_strict_host_key_checking": "yes",
        "_sudo": True,
    }


def test_who_logs_in_as_root_needs_no_sudo(checkout: Checkout) -> None:
    checkout.put("inventory/host_vars/one.yml", "ansible_user: root\nansible_become: true\n")

    assert "_sudo" not in checkout.resolve().hosts["one"].connection


def test_the_vault_opens_with_the_password_that_the_environment_names() -> None:
    directory = ROOT / "inventories/testbed"

    done = run("inventories.resolver", str(directory), password_file=directory / "vault-password")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hosts"]["slave1"]["roles"]["slave"]["vars"]["slave_user"] == "slave"


@pytest.mark.parametrize("password", [None, "wrong"], ids=["no password", "a wrong password"])
def test_a_vault_that_stays_shut_is_said_in_one_line(tmp_path: Path, password: str | None) -> None:
    file = tmp_path / "password"
    file.write_text(password or "")

    done = run("inventories.resolver", "inventories/testbed", password_file=file if password else None)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in done.stderr
    assert "vault.yml" in done.stderr


_TRICKY = """\
{% if shop_names %}
first line{# with a comment #}
{% endif %}
{%- for name in shop_names %}
  a\\b {{ "c\\\\d" }} {{ name | quote }} {{ shop_port + 1 }}
{% endfor %}
{{ shop_names | to_json }}

{{ inventory_hostname }} ä
"""
TEXTS = {"tricky.j2": _TRICKY, "open.j2": _TRICKY.rstrip(), "empty.j2": "", "blank.j2": "\n\n"}


def test_a_text_has_the_bytes_that_ansible_writes(checkout: Checkout, tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        checkout.put(f"roles/shop/templates/{name}", text)
    checkout.put("inventory/group_vars/shops.yml", 'shop_names: [one, "two words", "\\\\ back"]\n')
    checkout.put("inventory/host_vars/one.yml", "ansible_connection: local\n")
    template = {"src": "{{ item }}", "dest": f"{tmp_path}/{{{{ item }}}}", "mode": "0644"}
    tasks = [{"ansible.builtin.template": template, "loop": list(TEXTS)}]
    checkout.put("roles/shop/tasks/main.yml", json.dumps(tasks))
    _play(checkout)

    ours = checkout.resolve().hosts["one"].roles["shop"].templates

    assert {name: text.encode() for name, text in ours.items()} == {
        name: (tmp_path / name).read_bytes() for name in TEXTS
    }


def _play(checkout: Checkout) -> None:
    program = ROOT / ".venv/bin/ansible-playbook"
    inventory, site = checkout.inventory / "hosts.yml", checkout.root / "playbooks/site.yml"
    environment = {
        "ANSIBLE_ROLES_PATH": str(checkout.root / "roles"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(checkout.root / "ansible"),
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
    }
    command = [str(program), "-i", str(inventory), "-l", "one", str(site)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

"""What the check says about the files of an inventory as files."""

from pathlib import Path

import pytest

from inventories.model import OPTIONS_OF_PLUGIN
from inventories.source import Encrypted, Reader, Source, VaultLocked


def read(directory: Path, **files: str) -> Source:
    """Write files (a__b for a/b, .yml added) and read them."""
    for name, text in {"hosts": "cluster:\n", **files}.items():
        path = directory / f"{name.replace('__', '/')}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Reader(directory, decrypt).read()


def decrypt(text: str, path: Path) -> str:
    if "wrong" in text:
        raise VaultLocked("the password is not the one it was encrypted with")
    return "hidden: 1\n"


def said(directory: Path, source: Source) -> list[str]:
    return [str(mistake).replace(f"{directory}/", "") for mistake in source.mistakes]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cluster:\n\thosts:\n", "hosts.yml:2: hosts.yml: there is a tab before the text; indent with spaces"),
        (
            "cluster:\n  hosts: {a: \n",
            "hosts.yml:3: hosts.yml: no valid YAML (expected the node content, but found '<stream end>'); "
            "mend the indentation, or quote values that hold : # { [ or begin with @ % *",
        ),
        (
            "cluster:\n  hosts:\n    a:\n      x: 1\n      x: 2\n",
            "hosts.yml:5: x: it stands on line 4 already, and the last one wins; keep one",
        ),
        (
            "cluster:\n  masters:\n    hosts:\n",
            "hosts.yml:2: masters: group cluster cannot hold this; "
            "only hosts, vars, children belong here: put groups below children",
        ),
        (
            "cluster:\n  hosts:\n    - a\n",
            "hosts.yml:3: list: this is no mapping; write `name: value` lines here",
        ),
        ("cluster: a\n", "hosts.yml:1: a: this is no mapping; write `name: value` lines here"),
    ],
    ids=["tab", "syntax", "duplicate", "section", "list", "text"],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert said(tmp_path, read(tmp_path, hosts=text)) == [expected]


def test_a_key_that_comes_twice_inside_of_a_value_is_named(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__masters="master_accounts:\n  ada: one\n  ada: two\n")
    assert said(tmp_path, source) == [
        "group_vars/masters.yml:3: ada: it stands on line 2 already, and the last one wins; keep one"
    ]


def test_a_missing_hosts_file_is_named(tmp_path: Path) -> None:
    source = Reader(tmp_path, decrypt).read()
    assert said(tmp_path, source) == [
        "hosts.yml:1: hosts.yml: there is no such file; copy inventories/example and edit it"
    ]
    assert not source.is_complete


def test_a_file_beside_a_directory_of_its_name_is_named(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__cluster="a: 1\n", group_vars__cluster__vault="b: 2\n")
    assert said(tmp_path, source) == [
        "group_vars/cluster.yml:1: cluster: Ansible does not read it, because the directory cluster/ is beside it; "
        "move it into that directory"
    ]
    assert [entry.name for entry in source.entries] == ["b"]


def test_a_vault_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__cluster="$ANSIBLE_VAULT;1.1;AES256\nwrong\n")
    assert said(tmp_path, source) == [
        "group_vars/cluster.yml:1: cluster.yml: the vault cannot be opened (the password is not the one it was "
        "encrypted with); name the file that holds the vault's password: export ANSIBLE_VAULT_PASSWORD_FILE=PATH"
    ]
    assert not source.is_complete


def test_an_encrypted_file_is_read_like_any_other(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__cluster="$ANSIBLE_VAULT;1.1;AES256\n3731\n")
    assert [(entry.name, entry.value) for entry in source.entries] == [("hidden", 1)]


def test_an_encrypted_value_is_not_taken_for_its_text(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__cluster="secret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3731\n")
    assert isinstance(source.entries[0].value, Encrypted)


def test_every_damaged_file_is_named_at_once(tmp_path: Path) -> None:
    source = read(tmp_path, group_vars__masters="a: [\n", host_vars__one="\tb: 1\n")
    assert [mistake.place.path.name for mistake in source.mistakes] == ["masters.yml", "one.yml"]


def test_values_know_their_file_line_and_host_or_group(tmp_path: Path) -> None:
    source = read(
        tmp_path,
        hosts="cluster:\n  vars:\n    a: 1\n  hosts:\n    one:\n      b: 2\n",
        group_vars__slaves="\nc: 3\n",
        host_vars__one="d: 4\n",
    )
    assert [
        (entry.name, entry.place.line, entry.scope, entry.is_host, entry.is_inline) for entry in source.entries
    ] == [
        ("a", 3, "cluster", False, True),
        ("b", 6, "one", True, True),
        ("c", 2, "slaves", False, False),
        ("d", 1, "one", True, False),
    ]
    assert source.host_places["one"].line == 5


def test_the_options_of_a_plugin_are_no_group(tmp_path: Path) -> None:
    source = read(tmp_path, hosts="gce_slaves:\n  project: p\nplugin: gce_slaves\ncluster:\n")
    assert source.plugin == "gce_slaves"
    assert [(entry.name, entry.scope) for entry in source.entries] == [("project", OPTIONS_OF_PLUGIN)]
    assert [use.name for use in source.uses] == ["cluster"]


def test_files_that_ansible_does_not_read_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    for name in ("cluster.yml.bak", ".cluster.yml.swp", "README.md"):
        (tmp_path / "group_vars" / name).write_text("\t")
    source = read(tmp_path)
    assert (said(tmp_path, source), source.is_complete) == ([], True)

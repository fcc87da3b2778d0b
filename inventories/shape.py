"""Rules on which hosts there are: groups, their names, and how many hosts each needs or may have."""

from collections.abc import Iterator

from inventories.model import (
    GROUPS_OF_ANSIBLE,
    ROLE_OF_GROUP,
    Host,
    Inventory,
    Mistake,
    Rule,
    nearest,
)

# Groups whose programs share one database and one queue, and the role that says which.
SHARING = {"masters": "master", "autoscaler": "autoscaler", "slaves": "slave"}
KNOWN_GROUPS = ROLE_OF_GROUP.keys() | GROUPS_OF_ANSIBLE
NEEDED = {
    "masters": "no master would take jobs",
    "database": "no MySQL would hold the jobs",
    "queue": "no beanstalkd would hold the queue",
    "isolate_servers": "no isolate server would hold the tests' files",
    "slaves": "no slave would run tests",
}
THIS_HOST = frozenset(("127.0.0.1", "::1", "localhost"))


def groups_are_known(inventory: Inventory) -> Iterator[Mistake]:
    """A group of another name is fine below one that gives a role, or for hosts that have their roles elsewhere."""
    for use in inventory.uses:
        if use.name in KNOWN_GROUPS or use.is_file or _has_role_from_above(inventory, use.name):
            continue
        near = nearest(use.name, ROLE_OF_GROUP)
        if near or any(set(host.roles) <= {"base"} for host in inventory.hosts_of(use.name)):
            instead = f"did you mean {near}?" if near else f"put it below one of {', '.join(ROLE_OF_GROUP)}"
            yield Mistake(place=use.place, key=use.name, wrong="this group gives its hosts no role", instead=instead)


def _has_role_from_above(inventory: Inventory, name: str) -> bool:
    parents = {use.parent for use in inventory.uses if use.name == name and use.parent}
    return any(
        parent in ROLE_OF_GROUP.keys() - {"cluster"} or _has_role_from_above(inventory, parent)
        for parent in parents - {name}
    )


def group_files_name_groups(inventory: Inventory) -> Iterator[Mistake]:
    groups = {use.name for use in inventory.uses if not use.is_file} | GROUPS_OF_ANSIBLE
    for use in inventory.uses:
        # A role's group may well be empty today: its file waits for the first host.
        if use.is_file and use.name not in groups | ROLE_OF_GROUP.keys():
            near = nearest(use.name, groups | ROLE_OF_GROUP.keys())
            instead = f"did you mean {near}?" if near else "remove it, or name the group in hosts.yml"
            yield Mistake(place=use.place, key=use.name, wrong="hosts.yml has no such group", instead=instead)


def host_files_name_hosts(inventory: Inventory) -> Iterator[Mistake]:
    names = {host.name for host in inventory.hosts}
    first = {entry.scope: entry for entry in reversed(inventory.entries) if entry.is_host and not entry.is_inline}
    for scope in sorted(first.keys() - names):
        near = nearest(scope, names)
        if not (inventory.discovers_slaves and near is None):
            instead = f"did you mean {near}?" if near else "remove it, or add the host to hosts.yml"
            yield Mistake(place=first[scope].place, key=scope, wrong="hosts.yml has no such host", instead=instead)


def no_values_for_all(inventory: Inventory) -> Iterator[Mistake]:
    """Only with the ansible.cfg of the checkout do such values win over the wiring; those of groups always do."""
    wrong = "without our ansible.cfg, playbooks/group_vars/all.yml wins over values for the group all"
    for use in inventory.uses:
        if use.name == "all" and use.is_file:
            instead = "put them into group_vars/cluster/, which always wins"
            yield Mistake(place=use.place, key="all", wrong=wrong, instead=instead)


def every_host_is_in_the_cluster(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        if "cluster" not in host.groups:
            instead = "name its group below children of cluster"
            yield Mistake(
                place=host.place, key=host.name, wrong="the host is not in the group cluster", instead=instead
            )
        elif host.roles == ("base",):
            instead = "add it to one of " + ", ".join(group for group in ROLE_OF_GROUP if group != "cluster")
            yield Mistake(
                place=host.place, key=host.name, wrong="the host has no role", instead=instead, is_warning=True
            )


def hosts_are_not_misspelt(inventory: Inventory) -> Iterator[Mistake]:
    """A name that only groups know, while a host of nearly that name is in no group, is that host's."""
    idle = {host.name for host in inventory.hosts if host.roles == ("base",)}
    known = {entry.scope for entry in inventory.entries if entry.is_host}
    for host in inventory.hosts:
        near = nearest(host.name, idle - {host.name})
        if near and host.name not in known:
            wrong = f"nothing is said about this host, and {near} is in no group"
            yield Mistake(place=host.place, key=host.name, wrong=wrong, instead=f"did you mean {near}?")


def needed_groups_have_hosts(inventory: Inventory) -> Iterator[Mistake]:
    for group, consequence in NEEDED.items():
        if not inventory.hosts_of(group) and not (group == "slaves" and inventory.discovers_slaves):
            yield Mistake(
                place=inventory.place_of_group(group),
                key=group,
                wrong=f"the group has no host, {consequence}",
                instead="name a host below it",
            )


def something_serves_s3(inventory: Inventory) -> Iterator[Mistake]:
    if inventory.hosts_of("object_store"):
        return
    for name in ("s3_access_key", "s3_secret_key"):
        # A value of the wiring would be that of an object store, which is not there.
        hosts = inventory.hosts_of("masters")
        if not all(inventory.entry_for(host, name) for host in hosts):
            yield Mistake(
                place=inventory.place_of_group("object_store"),
                key=name,
                wrong="no host is in the group object_store and no S3 account is named: logs would have no place",
                instead="name a host, or set s3_access_key, s3_secret_key and, for others than Amazon, s3_endpoint_url",
            )
            return


def one_host_only(inventory: Inventory) -> Iterator[Mistake]:
    hosts = inventory.hosts_of("object_store")
    if len(hosts) > 1:
        yield Mistake(
            place=hosts[1].place,
            key="object_store",
            wrong=f"{_names(hosts)} would each keep other objects",
            instead="keep one of them in the group",
        )


def all_use_one(inventory: Inventory) -> Iterator[Mistake]:
    """Several databases or queues are fine once it is said which one all programs use."""
    yield from _all_use_one(inventory, "database", "mysql")
    yield from _all_use_one(inventory, "queue", "beanstalkd")


def _all_use_one(inventory: Inventory, group: str, server: str) -> Iterator[Mistake]:
    users = [host for host in inventory.hosts if SHARING.keys() & host.groups]
    told = [
        (host, f"{role}_{server}_host")
        for host in users
        for role in SHARING.values()
        if role in host.roles and inventory.entry_for(host, f"{role}_{server}_host")
    ]
    hosts = inventory.hosts_of(group)
    if len(hosts) > 1 and not told:
        yield Mistake(
            place=hosts[1].place,
            key=group,
            wrong=f"{_names(hosts)} are all in the group, but masters and slaves share one",
            instead=f"keep one, or say which in master_{server}_host and slave_{server}_host",
        )
    yield from _disagreements(inventory, group, server, users)


def _disagreements(inventory: Inventory, group: str, server: str, users: list[Host]) -> Iterator[Mistake]:
    used = [
        (host, role, endpoint)
        for host in users
        for role in SHARING.values()
        if role in host.roles and (endpoint := _endpoint(host, f"{role}_{server}"))
    ]
    for host, role, endpoint in used[1:]:
        first, _, usual = used[0]
        if endpoint != usual:
            key = f"{role}_{server}_host"
            yield Mistake(
                place=inventory.place_for(host, key),
                key=key,
                wrong=f"{host.name} would use the {group} {_shown(endpoint)}, but {first.name} {_shown(usual)}",
                instead="masters and slaves share one: set it once, in group_vars/cluster/",
            )


def _endpoint(host: Host, prefix: str) -> tuple[object, ...] | None:
    """Host, port and database that a program of the host would use; an address of the host itself as others see it."""
    address = host.get(f"{prefix}_host")
    if not address:
        return None
    address = host.get("cluster_address") or address if address in THIS_HOST else address
    return (address, host.get(f"{prefix}_port"), host.get(f"{prefix}_database"))


def _shown(endpoint: tuple[object, ...]) -> str:
    return " ".join(str(part) for part in endpoint if part)


def isolate_servers_share_a_store(inventory: Inventory) -> Iterator[Mistake]:
    hosts = inventory.hosts_of("isolate_servers")
    for host in hosts if len(hosts) > 1 else ():
        if str(host.get("isolate_store") or "disk").startswith("disk"):
            yield Mistake(
                place=inventory.place_for(host, "isolate_store"),
                key="isolate_store",
                wrong=f"{host.name} would keep blobs on its own disk, where the other isolate servers cannot see them",
                instead="set s3:BUCKET for all of them, or keep one isolate server",
            )


def _names(hosts: tuple[Host, ...]) -> str:
    return " and ".join(host.name for host in hosts)


RULES: tuple[Rule, ...] = (
    groups_are_known,
    group_files_name_groups,
    host_files_name_hosts,
    no_values_for_all,
    every_host_is_in_the_cluster,
    hosts_are_not_misspelt,
    needed_groups_have_hosts,
    something_serves_s3,
    one_host_only,
    all_use_one,
    isolate_servers_share_a_store,
)

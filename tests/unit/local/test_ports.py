"""Ports that stay the same from one start to the next."""

import socket
from pathlib import Path

from dist_test.local.ports import choose_ports, read_ports


def test_chosen_ports_are_remembered(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", ["a", "b"], {})
    assert choose_ports(tmp_path / "ports.json", ["a", "b"], {}) == first == read_ports(tmp_path / "ports.json")


def test_every_name_gets_a_port_of_its_own(tmp_path: Path) -> None:
    names = [f"port {number}" for number in range(50)]
    assert len(set(choose_ports(tmp_path / "ports.json", names, {}).values())) == len(names)


def test_a_fixed_port_wins_over_the_remembered_one(tmp_path: Path, free_port: int) -> None:
    choose_ports(tmp_path / "ports.json", ["a"], {})
    assert choose_ports(tmp_path / "ports.json", ["a"], {"a": free_port}) == {"a": free_port}


def test_a_remembered_port_that_somebody_took_is_replaced(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", ["a"], {})["a"]
    with socket.create_server(("127.0.0.1", first)):
        assert choose_ports(tmp_path / "ports.json", ["a"], {})["a"] != first

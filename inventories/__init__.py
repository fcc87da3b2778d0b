"""Inventories, what checks and resolves them, and what starts either tool on them."""

import os
from pathlib import Path

# Before the first import of Ansible's, which reads it then.
os.environ.setdefault("ANSIBLE_CONFIG", str(Path(__file__).resolve().parent.parent / "ansible.cfg"))

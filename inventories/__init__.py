"""Inventories of clusters, and what reads them for pyinfra with Ansible's own engine."""

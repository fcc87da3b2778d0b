"""Roles: what a host of a group becomes, by Ansible (tasks/) and by pyinfra (deploy.py) from the same variables."""

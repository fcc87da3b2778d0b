"""The image of a slave for pyinfra: pyinfra -y images/inventory.py deploy.py; see images/build.py, which says where."""

from inventories import loader

globals().update(loader.groups(__file__, is_cluster=False))

"""A tree in the cache of blobs, as the entries of the private copy that a task gets."""

from dist_test.isolate.cache import CachedTree
from dist_test.running.tree import TreeEntry


def entries_of(cached: CachedTree) -> list[TreeEntry]:
    """What write_tree is to write. The checkout must stay open until it has."""
    return [
        TreeEntry(file.path, None if file.digest is None else cached.blob_name(file.digest), file.mode, file.link)
        for file in cached.tree.files
    ]

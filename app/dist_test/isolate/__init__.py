"""Packages of files named by their digests: the formats, the server, its client, and the cache of blobs."""

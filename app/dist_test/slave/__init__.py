"""The slave: reserves attempts, runs them under a lease, and records how they ended."""

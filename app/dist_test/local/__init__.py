"""A whole cluster as child processes on one machine: for a laptop, the demo and the tests."""

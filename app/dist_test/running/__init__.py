"""How one attempt of a task is run: the same on a slave and on a laptop (`run-isolated`).

`runner.Runner` is the door. Nothing is imported here, so that the launcher starts in a few milliseconds.
"""

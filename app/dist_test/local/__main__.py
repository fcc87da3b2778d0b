"""`python -m dist_test.local`: what `up --detach` runs in the background."""

from dist_test.local.command import local

local(prog_name="dist-test local")

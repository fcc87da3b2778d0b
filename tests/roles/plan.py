"""A deploy file for pyinfra that uses our operations in the directory that TRIAL names."""

import getpass
import grp
import io
import os

from roles import operations

directory = os.environ["TRIAL"]
user = getpass.getuser()
group = grp.getgrgid(os.getgid()).gr_name
text = os.environ["TRIAL_TEXT"]

operations.secret("trial | Configure", io.StringIO(text), f"{directory}/config", user=user, group=group, mode="640")
operations.script(
    "trial | Start after the configuration",
    f"cp {directory}/config {directory}/running && echo start >> {directory}/log",
    f"cmp -s {directory}/config {directory}/running && echo unchanged",
)
operations.prove("trial | Use", f"grep -q good {directory}/running")

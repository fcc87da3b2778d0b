"""Loaded by schemathesis: every request bears the credentials of the tests' account."""

import os

import schemathesis
from requests.auth import HTTPDigestAuth

# type: the function is put there at run time, as schemathesis documents it
schemathesis.auth.set_from_requests(  # type: ignore[attr-defined]
    HTTPDigestAuth(os.environ["FUZZING_USER"], os.environ["FUZZING_PASSWORD"])
)

"""python -m dist_test_autoscale."""

import sys

from dist_test_autoscale.command import main

sys.exit(main())

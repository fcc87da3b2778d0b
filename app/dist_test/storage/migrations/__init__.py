"""The schema's history, applied by `dist-test-master migrate`."""

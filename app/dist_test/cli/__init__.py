"""The command line, `dist-test`."""

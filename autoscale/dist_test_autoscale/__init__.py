"""The autoscaler: buys slaves when work waits, gives them back when it does not, and never kills a running test."""

"""What dist_test is about, without I/O and without a clock: jobs, tasks, attempts, outcomes, order and fairness."""

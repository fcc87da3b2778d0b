"""The master: takes jobs, queues and cancels them, answers what people ask, and mends what a crash left behind."""

"""Where the time of a training step goes, beside what the machine could do."""

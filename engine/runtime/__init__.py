"""Plans at work: executor, feeding, the loop, checkpoints."""

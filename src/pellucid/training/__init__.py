"""Training: the loop, what is decided before it, checkpoints, transfer."""

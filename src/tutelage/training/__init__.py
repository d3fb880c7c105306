"""The one training loop: optimizer and schedule, EMA, checkpoints, the distributed seam."""

"""What a student can learn from: pure losses, and the objectives that hold their state."""

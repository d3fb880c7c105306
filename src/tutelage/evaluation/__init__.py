"""What a model is worth: predictions, metrics and their intervals."""

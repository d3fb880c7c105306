"""Tasks: head, supervised loss, metrics and target format of each kind of problem."""

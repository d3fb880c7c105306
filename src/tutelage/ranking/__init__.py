"""Which pretrained teacher suits a task: each sees the labeled images once, and simple models judge its features."""

"""What a topology looks like: its layers, its paths, and its similarity to another one."""

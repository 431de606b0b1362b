"""Drop scores: how much an existing connection is worth. Each method is one file. Higher means keep."""

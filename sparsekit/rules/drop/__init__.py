"""Drop scores: how much an existing connection is worth. One file a method. Higher means keep."""

"""What networks do on data, and how differently several of them decide."""

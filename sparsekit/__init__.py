"""sparsekit: teach, train and analyse sparse neural networks."""

"""How topologies change during training, and how scores share connections as a network shrinks."""

"""How the loss looks around a network and between networks."""

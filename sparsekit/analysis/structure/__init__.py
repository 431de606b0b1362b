"""What a topology looks like: of one layer, of a whole network, and beside another one."""

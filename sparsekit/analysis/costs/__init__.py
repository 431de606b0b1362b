"""What training and using a network costs in operations, bytes and seconds."""

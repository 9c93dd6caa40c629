"""What the tables and pictures of recipes/paper do not say by themselves: the figures of its PROTOCOL and RESULTS."""

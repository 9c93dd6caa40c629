"""The pictures of the documentation, drawn from what a run has recorded."""

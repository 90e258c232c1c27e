"""Picture to picture, learnt from pairs."""

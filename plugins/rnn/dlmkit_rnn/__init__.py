"""The simple recurrent net: the cell, layers of it, back-propagation through time by hand, and the tasks."""

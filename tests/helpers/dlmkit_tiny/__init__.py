"""A plugin of a few numbers, which the core's tests install for themselves."""

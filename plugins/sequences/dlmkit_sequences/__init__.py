"""Sequence problems as data modules: long-term dependencies, and the five shapes."""

"""Pictures as data, and a judge of made ones."""

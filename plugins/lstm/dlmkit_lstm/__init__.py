"""Long short-term memory and its variants: the models, the record of their gates, and the tasks that train them."""

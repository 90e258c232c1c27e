"""The gated recurrent unit: the model, the record of its gates, and the tasks that train it."""

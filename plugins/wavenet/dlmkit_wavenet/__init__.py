"""WaveNet: the model, its generation sample by sample, sounds to learn from, and the tasks that train it."""

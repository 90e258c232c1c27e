"""Translation: encoder, attention and decoder, beam search, parallel text, and the tasks that train on it."""

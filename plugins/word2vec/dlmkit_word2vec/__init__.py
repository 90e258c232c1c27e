"""word2vec: vectors of words from the words around them, by skip-gram and CBOW with negative sampling."""

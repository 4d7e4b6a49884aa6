"""The demo: a bag is replayed to a running node while a third process asks it questions."""

"""Bounded memory: a budget, rules of what is forgotten, positions that stay in range, patches that need not be kept."""

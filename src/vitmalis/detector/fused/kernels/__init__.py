"""Triton kernels of the fast path, each with the function that launches it.

Tokens are rows: the frames of a batch follow each other, each with as many rows as its bucket has. Queries, keys and
values stay where their product left them, (B * tokens, 3C), and attention writes (B * tokens, C). Indices come from the
plans of the frames; a stride of 0 between plans means that all frames share one.
"""

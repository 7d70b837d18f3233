"""Plans as values: tensors, the table of schemes, their builders, and checks of single fields.

Not here: files and messages (`wire`), and what follows from several fields (`resolve`).
"""

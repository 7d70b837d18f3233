"""The random stream: keys, words, draws, the normal quantile and rounding, as docs/stream-v1.md
fixes them.

Not here: which draw a scheme takes (`resolve`), and loops over many elements (`backends`).
"""

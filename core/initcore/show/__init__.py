"""A plan for people: descriptions, remarks, the table of describe, numbers as text.

Client and server both show these. Not here: pictures (`report`).
"""

"""The page: what a browser shows of a run or of a node, as a file, and served while it goes on.

All that it shows is one JSON document, drawn by the scripts of `templates`.
"""

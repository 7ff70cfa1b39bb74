"""The trail as a file: any search, streamed at once or prepared in the background, in constant memory.

``columns``: what a row says, as SQL. ``rows``: the file's bytes, piece by piece. ``stream``: a download at once.
``jobs``: files that are prepared by workers. ``package``: a file with everything that proves it.
"""

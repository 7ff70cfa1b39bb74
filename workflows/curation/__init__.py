"""From items to a digest. Pure: no tables, no input or output, no clock.

normalise ─▶ Candidate ─▶ fold ─▶ rank ─▶ compose (a digest, validated) ─▶ render (content)
"""

"""From files to pixels: reading, checking, splitting and packing labelled pictures."""

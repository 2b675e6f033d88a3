"""A page on this machine alone that classifies images with one client's prompt, and the same for other programs.

Needs ``secfpp[page]``. Nothing that is sent to it is written to disk or logged.
"""

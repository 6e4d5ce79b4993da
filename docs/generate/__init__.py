"""Writes the reference pages from the code: `make reference` after a change of a setting, an option, a table or a name.

The pages are committed, so that they can be read on GitHub and offline, a reviewer sees what a change of the code does
to them, and the site is built without torch. tests/docs/test_reference.py fails while they are not current.
"""

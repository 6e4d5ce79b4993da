"""Helpers that no result depends on: atomic files, checks of arguments, processes, signals, provenance.

This room exports no names: its modules are imported one by one, such as `getam.utils.files`.
"""

"""Plugins: code that observes what a sandbox does, and may refuse or change it.

A plugin is any object with some of the methods that `hooks.py` names, each of which gets the
context that is defined there. `Chain` asks several in their order; `process.py` lets programs in
any language be plugins; `declared.py` finds those that are named; `builtin` has those that come
with Sandlot, written on nothing but the hooks.
"""

"""The system bus. Nothing else in Modulus imports pydbus, or knows GLib's errors.

Importing it costs next to nothing: only a connection imports pydbus.
"""

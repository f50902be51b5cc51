"""The system bus. Nothing else in Modulus imports pydbus, or knows GLib's errors.

To import it costs next to nothing: pydbus is imported by who connects.
"""

"""The state of instances, told and waited for."""

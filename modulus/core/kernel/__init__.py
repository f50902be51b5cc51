"""Kernels: releases, identities, and the formats of their files."""

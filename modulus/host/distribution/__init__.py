"""What a build takes from the distribution: headers, toolchain, packages."""

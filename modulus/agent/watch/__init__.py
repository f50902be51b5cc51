"""Where events come from: modules, device nodes, kernels, selections."""

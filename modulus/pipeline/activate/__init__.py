"""From a build to a driver at work: provide, load, switch, and go back."""

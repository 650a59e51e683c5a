"""The bundle: a precision map as a folder that rebuilds and checks itself on the target."""

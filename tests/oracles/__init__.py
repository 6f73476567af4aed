"""Every diagnostic, computed by loops over rows and steps: a module a theme."""

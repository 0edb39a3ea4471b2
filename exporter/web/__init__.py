"""HTTP: routes, admin endpoints and the status page."""

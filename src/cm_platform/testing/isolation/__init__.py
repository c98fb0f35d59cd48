"""The isolation suites: attacks on a store that tenants share, none of which may succeed."""

"""swarmstate inside other frameworks; import the one you use."""

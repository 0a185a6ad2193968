"""LangGraph's long-term memory in any store: the public layout, what an engine offers, one for all."""

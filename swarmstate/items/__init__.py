"""LangGraph's long-term memory in any store: its layout, what an engine offers, one for all."""

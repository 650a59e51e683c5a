"""Several run folders compared: reading, choosing, the gate, tables and figures."""

"""Scores of talking faces: lip-sync distance and confidence, mouth state, flicker."""

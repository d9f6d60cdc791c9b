"""Deltadex's Streamlit dashboard. Reads Postgres only."""

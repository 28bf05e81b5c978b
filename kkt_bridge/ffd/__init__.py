"""The fiscal document of a receipt in the tax service's own words: FFD 1.2 as JSON, pure."""

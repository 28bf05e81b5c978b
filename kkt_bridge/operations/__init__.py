"""What operators see and do: state, health and alerts going out, commands coming in."""

"""What steers the stages and shows them: operators' commands, retained state, health."""
